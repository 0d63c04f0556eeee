"""The figures of the studies' notebooks, a module each: frames in, figures out, no file read. No torch."""
