"""Workshop: data sets on disk, and the frames a quantizer is shown. Never on the board."""
