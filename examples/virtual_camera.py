"""A virtual camera for video calls: this machine's camera with the background blurred.

sudo apt install v4l2loopback-dkms; sudo modprobe v4l2loopback exclusive_caps=1
pip install pyvirtualcam
python examples/virtual_camera.py 0
"""

import contextlib
import sys

import pyvirtualcam

from edge_seg import EdgeSegmenter
from edge_seg.camera import open_source
from edge_seg.compositing import blur, firm
from edge_seg.errors import EdgeSegError

FPS = 30


def blurred(name):
    """Yield frames, uint8 (H, W, 3) RGB."""
    with (
        EdgeSegmenter.open(format="rgb") as segmenter,
        open_source(name, format="rgb", size=(480, 640), fps=FPS) as source,
    ):
        for frame, mask in segmenter.stream(source, dtype="uint8"):
            yield blur(frame, firm(mask))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    try:
        with contextlib.closing(blurred(sys.argv[1])) as frames:
            height, width = next(frames).shape[:2]
            with pyvirtualcam.Camera(width=width, height=height, fps=FPS) as camera:
                print(f"look for {camera.device}")
                for frame in frames:
                    camera.send(frame)
    except KeyboardInterrupt:
        sys.exit(print("virtual_camera: interrupted", file=sys.stderr) or 130)
    except (EdgeSegError, RuntimeError) as error:  # no camera; no loopback device
        sys.exit(f"virtual_camera: {error}")
