"""The lines `edge-seg doctor --camera SOURCE` prints about a source of frames."""

from __future__ import annotations

from edge_seg.errors import CameraError


def look(source: str) -> bool:
    """Print what the source gives; False where it gives no frame, or wrong colours."""
    from edge_seg.camera.checkup import check

    good = True
    try:
        for remark in check(source):
            print(f"camera: {remark.text}")
            good &= remark.good
    except CameraError as error:
        print(f"camera: {error}")
        return False
    return good
