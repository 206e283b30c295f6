"""The blurred camera at http://127.0.0.1:8080/, which asks for no password: on this machine only.

python examples/mjpeg.py 0 [PORT]
"""

import contextlib
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from edge_seg import EdgeSegmenter
from edge_seg.compositing import blur, firm
from edge_seg.errors import EdgeSegError

HEAD = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
newest, changed = b"", threading.Condition()


class Page(BaseHTTPRequestHandler):
    def do_GET(self):  # one JPEG after the other, the newest to every browser
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # until the browser leaves
            while True:
                with changed:
                    changed.wait()
                    part = HEAD % len(newest) + newest
                self.wfile.write(part + b"\r\n")


if not sys.argv[1:]:
    sys.exit(__doc__)
try:
    server = ThreadingHTTPServer(("127.0.0.1", int((*sys.argv, 8080)[2])), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}/", flush=True)
    with EdgeSegmenter.open() as segmenter:
        for frame, mask in segmenter.stream(sys.argv[1], dtype="uint8"):
            with changed:
                newest = cv2.imencode(".jpg", blur(frame, firm(mask)))[1].tobytes()
                changed.notify_all()
except KeyboardInterrupt:
    sys.exit(print("mjpeg: interrupted", file=sys.stderr) or 130)
except (EdgeSegError, OSError, ValueError, OverflowError) as error:  # no camera, no such port
    sys.exit(f"mjpeg: {error}")
