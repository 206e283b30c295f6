"""The video plays in a browser: a headless Chromium opens it, plays it, and tells what it saw."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_seg.recording import VideoFile

FPS, FRAMES, SIZE = 10.0, 20, (96, 128)
# Plays the video, and sends what the browser makes of it: its length, how far it came, how many
# frames it decoded, and the colours (RGBA) in the middle of the first and the last frame shown.
PAGE = """
<video id="v" src="/out.webm" muted></video>
<script>
const v = document.getElementById("v"), seen = {times: []};
function colour() {
  const c = document.createElement("canvas");
  c.width = v.videoWidth; c.height = v.videoHeight;
  const g = c.getContext("2d"); g.drawImage(v, 0, 0);
  return Array.from(g.getImageData(c.width / 2, c.height / 2, 1, 1).data);
}
function tell() {
  fetch("/seen", {method: "POST", body: JSON.stringify(seen)});
}
v.onerror = () => { seen.error = v.error.message; tell(); };
// Not onloadeddata: on a busy machine the picture may not be there to look at yet.
v.requestVideoFrameCallback(() => {
  seen.first = colour(); seen.duration = v.duration;
  seen.size = [v.videoHeight, v.videoWidth];
  v.play().catch(e => { seen.error = String(e); tell(); });
});
v.ontimeupdate = () => seen.times.push(v.currentTime);
v.onended = () => {
  seen.last = colour(); seen.frames = v.getVideoPlaybackQuality().totalVideoFrames; tell();
};
</script>
"""


class _Page(BaseHTTPRequestHandler):
    """Serves the page and the video, and takes the browser's report."""

    video: bytes
    seen: dict[str, Any]
    told: threading.Event

    def do_GET(self) -> None:
        is_video = self.path == "/out.webm"
        body = self.video if is_video else PAGE.encode()
        self.send_response(200 if is_video or self.path == "/" else 404)
        self.send_header("Content-Type", "video/webm" if is_video else "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        type(self).seen = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(204)
        self.end_headers()
        self.told.set()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def chromium() -> str:
    """The browser's command."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        found = shutil.which(name)
        if found:
            return found
    pytest.skip("no chromium on this machine: apt install chromium")


@pytest.fixture(params=[None, 0.25], ids=["at its rate", "as its frames came"])
def seconds(request: pytest.FixtureRequest) -> float | None:
    """How far apart the frames were written, by a clock; None: without one."""
    step: float | None = request.param
    return step


@pytest.fixture
def page(tmp_path: Path, seconds: float | None) -> Iterator[type[_Page]]:
    """A page that plays a video of 20 frames going from red to blue."""
    path = tmp_path / "out.webm"
    ticks = itertools.count()
    clock = None if seconds is None else lambda: seconds * next(ticks)
    with VideoFile(path, fps=FPS, clock=clock) as video:
        for i in range(FRAMES):
            share = i / (FRAMES - 1)
            color = (int(220 * share), 0, int(220 * (1 - share)))  # BGR
            video.write(np.full((*SIZE, 3), color, dtype=np.uint8))

    class Page(_Page):
        video = path.read_bytes()
        seen: dict[str, Any] = {}
        told = threading.Event()

    yield Page


@pytest.mark.slow
def test_a_browser_plays_the_video_to_its_end(
    chromium: str, page: type[_Page], seconds: float | None, tmp_path: Path
) -> None:
    length = FRAMES * (seconds or 1 / FPS)
    server = ThreadingHTTPServer(("127.0.0.1", 0), page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    command += ["--autoplay-policy=no-user-gesture-required", "--remote-debugging-port=0"]
    command += [
        f"--user-data-dir={tmp_path / 'profile'}",
        f"http://127.0.0.1:{server.server_port}/",
    ]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert page.told.wait(120), "the browser told nothing: it did not play the video"
    finally:
        browser.terminate()
        browser.wait(30)
        server.shutdown()
        server.server_close()
    seen = page.seen
    assert "error" not in seen, seen
    assert seen["size"] == list(SIZE)
    assert seen["duration"] == pytest.approx(length, abs=0.15)
    assert max(seen["times"]) > 0.8 * length and seen["times"] == sorted(seen["times"])
    assert seen["frames"] >= FRAMES // 2  # a busy machine may drop some
    red, blue = seen["first"], seen["last"]
    assert red[0] > 180 and red[2] < 60, red
    assert blue[2] > 180 and blue[0] < 60, blue
