"""The record types of the studies, a module each. `nonconvex.records` reads and writes them."""
