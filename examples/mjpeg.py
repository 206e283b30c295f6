"""The camera with its background blurred, in a browser: http://127.0.0.1:8080/

python examples/mjpeg.py 0 [PORT]        on this machine only: there is no password
"""

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2

from edge_seg import EdgeSegmenter
from edge_seg.compositing import blur

newest, changed = b"", threading.Condition()


class Page(BaseHTTPRequestHandler):
    """One JPEG after the other, the newest to every browser."""

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        while True:
            with changed:
                changed.wait()
                picture = newest
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
            self.wfile.write(head.encode() + picture + b"\r\n")


server = ThreadingHTTPServer(("127.0.0.1", int((*sys.argv, 8080)[2])), Page)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"http://127.0.0.1:{server.server_port}/", flush=True)
with EdgeSegmenter.open() as segmenter:
    for frame, mask in segmenter.stream(sys.argv[1], dtype="uint8"):
        with changed:
            newest = cv2.imencode(".jpg", blur(frame, mask))[1].tobytes()
            changed.notify_all()
