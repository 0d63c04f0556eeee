"""Efforts that every tool is tried at, each up to the first that is accurate enough."""

TOLERANCES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 3e-3, 1e-3, 3e-4, 1e-4, 1e-5, 1e-6)  # a tool's own, relative
PRODUCTS = (6, 9, 15, 21, 30, 45, 66, 99, 150, 225, 330, 495, 750)  # multiples of three, as Hutch++ wants them
DENSITIES = (2, 4, 8, 16, 32, 64)  # Lanczos steps, and random starts
SPACES = (4, 8, 16)  # vectors that SciPy's eigsh keeps, 20 by default
