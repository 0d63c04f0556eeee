"""Pure measurements of trained networks: flatness at a point, connectivity between points."""
