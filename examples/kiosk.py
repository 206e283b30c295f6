"""A kiosk: whoever stands there before a picture of yours; nobody there, the picture alone.

    python examples/kiosk.py 0 beach.jpg | gst-launch-1.0 fdsrc ! rawvideoparse format=bgr \
        width=640 height=480 framerate=15/1 ! videoconvert ! autovideosink sync=false
"""

import contextlib
import sys
import time
from pathlib import Path

from edge_seg import EdgeSegError, EdgeSegmenter
from edge_seg.camera import open_source
from edge_seg.compositing import blend, cover, firm
from edge_seg.pictures import read_picture

SIZE, FPS = (480, 640), 15
PERSON, IDLE_AFTER, LOOK_EVERY = 0.01, 3.0, 0.5  # of the frame, less is nobody; seconds; seconds


def kiosk(name, picture):
    """Yield frames to show, uint8 (480, 640, 3) BGR. A screen on its side: rotate=90."""
    background, seen = cover(picture, SIZE), 0.0
    with EdgeSegmenter.open() as segmenter:
        source = open_source(name, size=SIZE, fps=FPS, mirror=True, lores=segmenter.spec.squeezed)
        with source:
            while not source.ended:
                shot = source.read(seconds=1.0)
                if shot is None:  # the camera is away and being opened again
                    yield background
                    continue
                mask = segmenter.segment_shot(shot, source, dtype="uint8")
                seen = shot.timestamp if (mask > 127).mean() > PERSON else seen
                if shot.timestamp - seen < IDLE_AFTER:
                    yield blend(cover(shot.frame, SIZE), background, firm(cover(mask, SIZE)))
                else:  # nobody there: look twice a second, the processor cools
                    yield time.sleep(LOOK_EVERY) or background


if __name__ == "__main__" and (sys.argv[2:] or sys.exit(__doc__)):
    try:
        with contextlib.closing(kiosk(sys.argv[1], read_picture(Path(sys.argv[2])))) as frames:
            for frame in frames:
                sys.stdout.buffer.write(frame.tobytes())
    except KeyboardInterrupt:
        sys.exit(print("kiosk: interrupted", file=sys.stderr) or 130)
    except BrokenPipeError:
        print("kiosk: the window is closed", file=sys.stderr)
    except EdgeSegError as error:
        sys.exit(f"kiosk: {error}")
