"""Two public-domain portraits that installed packages carry, with outlines drawn by hand.

Eileen Collins (NASA; scikit-image's `astronaut`) and Grace Hopper (US Navy; matplotlib's sample).
The outlines are polygons drawn on the pictures, in their pixels, and looked at; no network had a
part in them. The helmet that Collins holds belongs to her, as in most portrait data sets.
"""

from __future__ import annotations

import cv2
import matplotlib.cbook
import numpy as np
import skimage.data
from numpy.typing import NDArray

COLLINS = (
    (190, 36), (205, 22), (225, 16), (250, 19), (272, 30), (288, 48), (296, 68), (301, 88),
    (297, 105), (290, 118), (281, 128), (276, 136), (266, 134), (261, 150), (257, 162), (256, 175),
    (272, 184), (287, 199), (298, 216), (304, 233), (318, 243), (332, 258), (343, 275), (350, 290),
    (356, 310), (362, 332), (365, 348), (380, 345), (400, 344), (425, 349), (450, 362), (470, 382),
    (485, 407), (495, 435), (503, 460), (509, 488), (511, 511), (38, 511), (30, 480), (26, 445),
    (19, 405), (20, 380), (25, 345), (35, 310), (43, 282), (53, 262), (68, 243), (90, 228),
    (111, 213), (119, 205), (114, 193), (117, 185), (124, 180), (130, 168), (141, 157), (157, 150),
    (184, 148), (184, 133), (174, 128), (163, 114), (155, 98), (153, 80), (156, 62), (165, 49),
    (178, 41),
)  # fmt: skip
HOPPER = (
    (218, 38), (201, 43), (183, 58), (174, 82), (160, 95), (154, 110), (151, 135), (152, 165),
    (153, 190), (155, 215), (160, 230), (163, 255), (169, 278), (181, 291), (197, 297), (203, 314),
    (193, 323), (168, 338), (132, 353), (91, 365), (61, 378), (48, 389), (38, 411), (28, 437),
    (20, 488), (15, 549), (11, 599), (511, 599), (511, 446), (503, 417), (492, 391), (467, 379),
    (432, 366), (396, 351), (356, 333), (333, 314), (333, 306), (345, 300), (355, 285), (361, 259),
    (364, 236), (370, 218), (375, 193), (371, 178), (370, 160), (372, 137), (370, 102), (363, 87),
    (353, 86), (345, 71), (330, 56), (305, 41), (285, 31), (254, 23), (234, 26),
)  # fmt: skip


def portraits() -> dict[str, NDArray[np.uint8]]:
    """Return name -> uint8 (H, W, 4) BGR + alpha (0 or 255, feathered by one pixel)."""
    hopper = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    collins = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
    return {"collins": _cut(collins, COLLINS), "hopper": _cut(hopper, HOPPER)}


def _cut(picture: NDArray[np.uint8], outline: tuple[tuple[int, int], ...]) -> NDArray[np.uint8]:
    alpha = np.zeros(picture.shape[:2], np.uint8)
    cv2.fillPoly(alpha, [np.array(outline, np.int32)], 255)
    return np.dstack([picture, cv2.GaussianBlur(alpha, (3, 3), 0)])
