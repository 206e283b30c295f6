"""Where each pixel of a frame was in the frame before: optical flow, and where it holds."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge_seg.arrays import Picture, Soft
from edge_seg.errors import FrameError
from edge_seg.metrics import Binary

LEAST_SIDE = 32  # px: the flow's patches are 8x8, at a quarter; OpenCV crashes where fewer fit
FLOW_ERROR = 8.0  # px^2 of |forward + backward|^2: where more, the flow is not believed


@dataclass(frozen=True)
class Motion:
    """Where each pixel was in the frame before: x, y float32 (H, W) px; valid: where it holds."""

    x: Soft
    y: Soft
    valid: Binary

    def warp(self, mask: Soft) -> Soft:
        """Return the earlier frame's mask, float32 (H, W), carried to the later frame."""
        return np.asarray(
            cv2.remap(mask, self.x, self.y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE),
            dtype=np.float32,
        )


def motion_between(before: Picture, after: Picture) -> Motion:
    """Return the motion from `after` back to `before`, both uint8 (H, W, 3), by DIS flow.

    A pixel counts where following the flow back and forth ends within sqrt(8) px of its start
    (the check of PP-HumanSeg) and inside the picture. Raises FrameError for frames of two sizes,
    or with a side under LEAST_SIDE.
    """
    if before.shape != after.shape:
        raise FrameError(
            f"wanted frames of one size in a clip, found {before.shape} and then {after.shape}; "
            "judge the parts apart"
        )
    if min(before.shape[:2]) < LEAST_SIDE:
        raise FrameError(
            f"wanted frames of {LEAST_SIDE} px or more a side for optical flow, found "
            f"{before.shape}; judge without motion"
        )
    grey = [cv2.cvtColor(p, cv2.COLOR_BGR2GRAY) for p in (before, after)]
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    back, forth = dis.calc(grey[1], grey[0], None), dis.calc(grey[0], grey[1], None)
    height, width = grey[0].shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = columns + back[..., 0], rows + back[..., 1]
    there = cv2.remap(forth, x, y, cv2.INTER_LINEAR)
    error = ((back + there) ** 2).sum(axis=2)
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    return Motion(x, y, inside & (error < FLOW_ERROR))
