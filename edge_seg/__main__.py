"""`python -m edge_seg` is `edge-seg`."""

import sys

from edge_seg.cli import main

sys.exit(main())
