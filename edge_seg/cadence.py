"""Running the network on every n-th frame only, and carrying its mask by motion between.

    mask     float32 (h, w) 0..1      the network's output, smoothed
    picture  uint8 (H, W, 3)          what the network sees, or would have seen

The motion is OpenCV's DIS optical flow (Kroeger et al., ECCV 2016) from the present picture to the
one of the last mask, on a grid of 64 cells: one flow however long ago that was, so errors do not
add up. Off by default: docs/cadence.md has what it saves and what it loses.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture, Soft
from edge_seg.errors import FrameError, SettingError
from edge_seg.ranges import within

GRID = 64  # cells of the longer side
LEAST_SIDE = 16  # cells: the flow's patches are 8x8, on a pyramid
MOST_EVERY = 30
REMEMBERED = 9  # times of each kind, of which `Budget` takes the median
CUT = 24.0  # levels by which the mean cell changed: another scene, for which the network runs
# s, half of smoothing.GAP. A mask carried is younger, so at a steady rate less than twice this lies
# between two frames of the network: no pause for smoothing.
OLDEST = 0.5
LONGEST_BUDGET = 10.0  # s
ROUNDING = 1e-6  # of a budget


class Cadence:
    """Decides when the network runs, and makes the masks between. every: frames per network run.

    It also runs where its last frame is half a second old (`OLDEST`) or later than this one: no
    mask is carried over a pause. So smoothing, which sees only the network's frames and begins anew
    after a second without one, goes on.

    seen: frames the network saw so far. left_out: frames whose mask was carried. Together they are
    all frames with a timestamp; `reset` does not change them.

    Raises SettingError unless `every` is a whole number from 1 to 30.

    >>> segmenter.cadence = Cadence(2)                                     # doctest: +SKIP
    """

    def __init__(self, every: int) -> None:
        if not within(every, 1, MOST_EVERY, whole=True):
            raise SettingError(
                f"wanted the network to run every 1 to {MOST_EVERY} frames, found {every!r}; "
                "choose a whole number of them, or None to run it on all"
            )
        self.every = int(every)
        self.seen = self.left_out = 0
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._flow.setFinestScale(1)
        self._mask: Soft | None = None
        self._shape: tuple[int, ...] = ()
        self._when: float  # s, of the last mask
        self._light: NDArray[np.uint8]
        self._looked: tuple[Picture, NDArray[np.uint8]] | None = None  # a picture and its light
        self._carried = 0

    def reset(self) -> None:
        """Forget the last mask: the network runs on the next frame."""
        self._mask = self._looked = None

    def due(self, picture: Picture, timestamp: float) -> bool:
        """True where the network has to run: its turn, a first frame, another size or scene.

        Also where its last frame is too old. timestamp: of the picture, seconds.
        """
        self._looked = None
        if self._mask is None or self._carried + 1 >= self.every or picture.shape != self._shape:
            return True
        if not 0 <= timestamp - self._when < OLDEST:
            return True
        light = _light(picture)
        self._looked = picture, light
        return float(cv2.absdiff(light, self._light).mean()) > CUT

    def keep(self, mask: Soft, picture: Picture, timestamp: float) -> None:
        """Take the network's mask of a picture, at that time in seconds, as the one to carry."""
        self._mask, self._shape, self._carried = mask.copy(), picture.shape, 0
        self._light, self._when = self._light_of(picture), timestamp
        self.seen += 1

    def spent(self, seconds: float) -> None:
        """Be told how long the last frame took, from the frame to its mask. Does nothing here."""

    def carry(self, picture: Picture) -> Soft:
        """Return the last mask moved to where the picture's content is now; a new array.

        Raises FrameError where no mask was kept.
        """
        if self._mask is None:
            raise FrameError("wanted a mask to carry, found none; run the network first (`due`)")
        self._carried += 1
        self.left_out += 1
        light = self._light_of(picture)
        if min(light.shape) < LEAST_SIDE:
            return self._mask.copy()
        height, width = self._mask.shape
        flow = cv2.resize(self._flow.calc(light, self._light, None), (width, height))
        flow *= np.array([width / light.shape[1], height / light.shape[0]], np.float32)
        flow[..., 0] += np.arange(width, dtype=np.float32)
        flow[..., 1] += np.arange(height, dtype=np.float32)[:, None]
        carried = cv2.remap(
            self._mask, flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(carried, dtype=np.float32)

    def _light_of(self, picture: Picture) -> NDArray[np.uint8]:
        """Return the light of the picture that `due` has just looked at, or of another one.

        Once: a camera may write its next frame into the same memory.
        """
        looked, self._looked = self._looked, None
        return looked[1] if looked is not None and looked[0] is picture else _light(picture)


class Budget(Cadence):
    """Runs the network as often as a budget allows: `seconds` per frame in the mean.

    Where all frames fit into it, on all of them.

    What a frame takes with and without the network is measured as frames come (medians of the last
    few), so the network runs less often while the processor is throttled. Where the rest alone
    takes longer than the budget, the network runs every 30th frame. It sees a frame every half
    second in any case (`Cadence`), so of a slow camera fewer are left out than the budget asks for:
    `kept` says whether that was enough.

    Raises SettingError unless 0 < seconds <= 10; more is probably meant as milliseconds.

    >>> segmenter.cadence = Budget(0.020)                                  # doctest: +SKIP
    """

    def __init__(self, seconds: float) -> None:
        if not within(seconds, 0, math.inf) or seconds in (0, math.inf):
            raise SettingError(
                f"wanted a budget in seconds, more than 0, found {seconds!r}; give the time a "
                "frame may take"
            )
        if seconds > LONGEST_BUDGET:
            raise SettingError(
                f"wanted a budget in seconds, up to {LONGEST_BUDGET:g}, found {seconds:g}; if "
                "these are milliseconds, divide by 1000"
            )
        super().__init__(1)
        self.seconds = float(seconds)
        self._run: deque[float] = deque(maxlen=REMEMBERED)
        self._carry: deque[float] = deque(maxlen=REMEMBERED)
        self._mean: float | None = None  # s, of the last turns measured whole
        self._of = 0  # frames in them
        self._total, self._frames = 0.0, 0  # s and number since then

    @property
    def mean(self) -> float:
        """Seconds a frame took in the mean; 0 before the first.

        Of the last whole turns (a frame the network saw and those left out after it) of 9 frames
        or more together; until there are some, of all frames so far.
        """
        return self._total / max(self._frames, 1) if self._mean is None else self._mean

    @property
    def mean_of(self) -> int:
        """How many frames `mean` is of."""
        return self._frames if self._mean is None else self._of

    @property
    def kept(self) -> bool:
        """True where `mean` is within the budget."""
        return self.mean <= self.seconds * (1 + ROUNDING)

    def spent(self, seconds: float) -> None:
        """Be told how long the last frame took; `every` follows."""
        self._measure(seconds)
        (self._carry if self._carried else self._run).append(seconds)
        run = median(self._run)
        if run <= self.seconds:
            self.every = 1
        elif not self._carry:
            self.every = 2  # to find out what carrying takes
        else:
            carry = median(self._carry)
            left = self.seconds - carry
            wanted = math.ceil((run - carry) / left) if left > 0 else MOST_EVERY
            self.every = min(max(wanted, 2), MOST_EVERY)

    def _measure(self, seconds: float) -> None:
        if not self._carried and self._frames >= REMEMBERED:
            self._mean, self._of = self._total / self._frames, self._frames
            self._total, self._frames = 0.0, 0
        self._total += seconds
        self._frames += 1


def _light(picture: Picture) -> NDArray[np.uint8]:
    scale = min(1.0, GRID / max(picture.shape[:2]))
    size = [max(1, round(side * scale)) for side in picture.shape[1::-1]]
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), dtype=np.uint8)
