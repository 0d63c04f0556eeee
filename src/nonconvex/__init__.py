"""Non-convex optimization in deep learning, measured: the library behind the notebooks."""
