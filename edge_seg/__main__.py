"""`python -m edge_seg` is `edge-seg`."""

from edge_seg.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
