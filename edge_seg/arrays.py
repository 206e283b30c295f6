"""The arrays that pass between modules, by name; shapes are what their users' docstrings say.

| name | dtype | shape, and what it holds |
|---|---|---|
| `Picture` | uint8 | (H, W, 3), BGR where no other order is said; a camera's NV12: (3H/2, W) |
| `Soft` | float32 | (H, W), how sure a person is there, 0..1 |
| `Label` | uint8 | (H, W), the truth: 0 background, 1 person, 255 not counted |

A picture with its truth is `Labelled`; in a clip, with its time in seconds, `LabelledFrame`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Soft = NDArray[np.float32]
Label = NDArray[np.uint8]
Labelled = tuple[Picture, Label]
LabelledFrame = tuple[Picture, Label, float]
