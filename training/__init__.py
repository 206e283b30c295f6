"""Workshop: the networks, their loss, training and export. Never on the board."""
