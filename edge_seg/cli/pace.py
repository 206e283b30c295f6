"""The rate of a camera's video: what the frames come at here, not what the camera states.

A WebM from OpenCV has one rate, fixed before its first frame. A camera states 30 and is segmented
at 10: its video would play three times too fast. So the first frames wait until they have shown
their pace.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edge_seg.recording import VideoFile

HELD = 12  # frames that wait: 33 MB at 1280x720
LEAST = 4  # of a camera that ends before; fewer tell no rate
NEAR = 0.1  # a pace this near to the stated rate is that rate


class Paced:
    """A `VideoFile` that gets its rate from the pace of its first frames.

    clock: seconds, any origin.
    """

    def __init__(self, video: VideoFile, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._video, self._clock = video, clock
        self._held: list[Any] = []
        self._times: list[float] = []
        self._settled = False

    def write(self, frame: Any) -> None:
        """Write a frame, or keep it until the rate is known. Raises as `VideoFile.write`."""
        if self._settled:
            self._video.write(frame)
            return
        self._held.append(frame)
        self._times.append(self._clock())
        if len(self._held) == HELD:
            self.settle()

    def settle(self) -> None:
        """Set the rate, and write the frames that waited; to be called at the end as well."""
        from edge_seg.recording import MAX_FPS, MIN_FPS

        self._settled = True
        if len(self._times) >= LEAST:
            pace = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-9)
            if abs(pace - self._video.fps) > NEAR * self._video.fps:
                self._video.fps = round(min(max(pace, MIN_FPS), MAX_FPS), 1)
        held, self._held = self._held, []
        for frame in held:
            self._video.write(frame)
