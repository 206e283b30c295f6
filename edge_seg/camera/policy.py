"""What a live source does in time, and what it counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_seg.errors import SettingError
from edge_seg.ranges import check, within

DROPS = ("oldest", "none")
LIMITS: dict[str, tuple[float, float]] = {
    "start": (0.001, 600.0),
    "stall": (0.001, 300.0),
    "deadline": (0.001, 60.0),
    "pause": (0.001, 60.0),
    "longest_pause": (0.001, 3600.0),
    "give_up": (0.001, math.inf),
    "hung": (0, 1000),
    "fps": (0.001, 1000.0),
}
UNITS = {"hung": "a whole number", "fps": "frames per second"}  # of the rest: seconds
ENDLESS = ("start", "stall", "deadline")  # math.inf: no limit


@dataclass(frozen=True)
class LivePolicy:
    """What a live source does when frames come too fast, too late or not at all. Seconds.

    Raises SettingError for numbers that mean nothing, and for times that look like milliseconds.

    drop: "oldest" keeps only the newest frame; "none" lets the camera wait for the reader, which
        then sees frames as old as the camera's own queue. start: to the first frame, then it is an
        error. stall: without a fresh frame until the camera is opened again. deadline: the age at
        which a frame is thrown away. math.inf for one of these three: no limit. pause,
        longest_pause: between attempts to open it again, the first and, doubled every time, the
        last. give_up: without a frame until CameraLost is raised; None keeps trying. hung: calls
        that may hang at once before CameraLost is raised: each keeps a thread. fps: hand out no
        more frames per second than this.
    """

    drop: str = "oldest"
    start: float = 10.0
    stall: float = 3.0
    deadline: float = 1.0
    pause: float = 0.5
    longest_pause: float = 10.0
    give_up: float | None = None
    hung: int = 3
    fps: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no source could keep. Raises SettingError."""
        if self.drop not in DROPS:
            raise SettingError(f"wanted drop= one of {DROPS}, found {self.drop!r}; correct it")
        for name, limits in LIMITS.items():
            value = getattr(self, name)
            if value is None and name in ("give_up", "fps"):
                continue
            if name in ENDLESS and within(value, math.inf, math.inf):
                continue
            unit = UNITS.get(name, "seconds")
            check(f"LivePolicy({name}=...)", value, limits, unit=unit, whole=name == "hung")


@dataclass
class LiveCounters:
    """How often what happened. dropped: replaced by a newer frame before anybody took it. stale:
    older than the deadline. skipped: more than the rate asked for. stalls: no frame in time.
    reconnects: opened again. hung: calls left behind.
    """

    delivered: int = 0
    dropped: int = 0
    stale: int = 0
    skipped: int = 0
    stalls: int = 0
    reconnects: int = 0
    hung: int = 0
