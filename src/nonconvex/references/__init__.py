"""Runs whose outcome is published elsewhere: what this code finds is held against it, in the GPU profile only."""
