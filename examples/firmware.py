"""A camera's firmware: a line of JSON per change (somebody came, left), watched over by systemd.

python examples/firmware.py picamera2        edge-seg.service runs it at boot
"""

import json
import os
import signal
import socket
import sys

from edge_seg import EdgeSegmenter
from edge_seg.camera import open_source
from edge_seg.errors import EdgeSegError

PERSON, FRAMES = 0.01, 5  # of the frame; in so many frames running


def notify(state):
    """Tell systemd, where it started us (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET", "").replace("@", "\0", 1)
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(state.encode(), address)


def watch(name):
    """Say who comes and goes, for ever. lores: made by the Pi's image processor."""
    there, changed = False, 0
    with EdgeSegmenter.open() as segmenter:
        with open_source(name, format="yuv420", lores=segmenter.spec.squeezed) as source:
            notify("READY=1")
            while True:
                shot = source.read(seconds=2.0)
                notify("WATCHDOG=1" if shot else "STATUS=no camera")  # long without: a restart
                mask = None if shot is None else segmenter.segment_shot(shot, source)
                person = there if mask is None else (mask > 0.5).mean() > PERSON
                changed = changed + 1 if person != there else 0
                if changed == FRAMES:
                    there, changed = not there, 0
                    print(json.dumps({"person": there}), flush=True)


signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
try:
    watch(sys.argv[1] if sys.argv[1:] else sys.exit(__doc__))
except KeyboardInterrupt:
    sys.exit(print("firmware: interrupted", file=sys.stderr) or 130)
except EdgeSegError as error:
    sys.exit(f"firmware: {error}")
