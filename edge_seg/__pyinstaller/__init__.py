"""What PyInstaller asks for edge-seg's hook; on a board nothing imports this."""

from __future__ import annotations

from pathlib import Path


def get_hook_dirs() -> list[str]:
    """Return the folder of `hook-edge_seg.py`."""
    return [str(Path(__file__).parent)]
