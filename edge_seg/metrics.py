"""What the numbers mean: every figure edge-seg quotes is computed here.

A mask is thresholded at >= 0.5 at the label's size (`binary`). Labels are uint8 (H, W): 0
background, 1 person, 255 ignored. Figures are fractions 0..1; tables show percent.

    mIoU, person IoU   areas summed over the whole set (PP-HumanSeg's way), then divided
    boundary F (3 px)  contour agreement per picture, mean over pictures
    SC                 connectivity of PP-HumanSeg's paper, per picture, mean over pictures
    specks             predicted components that touch no person, per picture
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.errors import FrameError

Binary = NDArray[np.bool_]
IGNORE = 255
THRESHOLD = 0.5
OVERSHOOT = 0.5  # how far a mask may leave 0..1: cubic enlargement does by a tenth
SPECK_SHARE = 5e-4  # of the picture: smaller components and holes of a label are noise
BOUNDARY_RADIUS = 3  # px at label size
LEAST_ABOVE_CHANCE = 0.05  # of mIoU: less is no segmentation
EMPTY_ROOM_SHARE = 0.01  # a picture of an empty room with more than 1 % person is a false alarm


def soft_at(mask: NDArray[np.generic], size: tuple[int, int]) -> NDArray[np.floating[Any]]:
    """Return a soft mask at `size` (height, width), resized bilinearly; itself where it has it.

    mask: float (h, w) 0..1. Raises FrameError for integers, and for values that leave 0..1 by more
    than a resize overshoots: 0..255 would all be people.
    """
    if mask.dtype.kind != "f":
        raise FrameError(f"wanted a soft mask of floats 0..1, found {mask.dtype}; divide it by 255")
    # OpenCV resizes no float16, which some networks answer in.
    soft: NDArray[Any] = mask.astype(np.float32) if mask.dtype == np.float16 else mask
    low, high = float(soft.min()), float(soft.max())
    if low < -OVERSHOOT or high > 1 + OVERSHOOT:
        raise FrameError(
            f"wanted a soft mask of floats 0..1, found {low:.3g} to {high:.3g}; divide one of "
            "0..255 by 255, and put logits through a sigmoid"
        )
    if soft.shape != size:
        soft = cv2.resize(soft, (size[1], size[0]), interpolation=cv2.INTER_LINEAR)
    return soft


def binary(mask: NDArray[np.generic], size: tuple[int, int]) -> Binary:
    """Return where a soft mask says person, at `size` (height, width): bool of that shape.

    mask: float (h, w) 0..1; resized bilinearly, then >= 0.5, which NaN is not. Raises FrameError
    as `soft_at` does.
    """
    return np.asarray(soft_at(mask, size) >= THRESHOLD)


def iou(prediction: Binary, truth: Binary) -> float:
    """Intersection over union of two boolean arrays; 1.0 when both are empty."""
    union = int(np.count_nonzero(prediction | truth))
    return int(np.count_nonzero(prediction & truth)) / union if union else 1.0


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


@dataclass
class Areas:
    """Pixels of a two-class confusion matrix, summed over a set."""

    both: int = 0  # person in both
    only_predicted: int = 0
    only_true: int = 0
    neither: int = 0

    def add(self, prediction: Binary, label: NDArray[np.uint8]) -> None:
        """Count one picture; ignored pixels (255) are left out."""
        _same_size(prediction, label)
        truth, valid = label == 1, label != IGNORE
        self.both += int(np.count_nonzero(prediction & truth))
        self.only_predicted += int(np.count_nonzero(prediction & ~truth & valid))
        self.only_true += int(np.count_nonzero(~prediction & truth))
        self.neither += int(np.count_nonzero(~prediction & ~truth & valid))

    @property
    def counted(self) -> int:
        """Pixels counted: those that no label ignored."""
        return self.both + self.only_predicted + self.only_true + self.neither

    @property
    def person_iou(self) -> float:
        """The person's IoU over the whole set; 1.0 where no one is there and none was seen."""
        return _ratio(self.both, self.both + self.only_predicted + self.only_true)

    @property
    def miou(self) -> float:
        """Mean of the person's and the background's IoU over the whole set."""
        background = _ratio(self.neither, self.neither + self.only_predicted + self.only_true)
        return (self.person_iou + background) / 2

    @property
    def predicted_share(self) -> float:
        """Share of valid pixels predicted as person."""
        return (self.both + self.only_predicted) / max(1, self.counted)

    @property
    def true_share(self) -> float:
        """Share of valid pixels that are person."""
        return (self.both + self.only_true) / max(1, self.counted)


def _same_size(prediction: NDArray[np.generic], label: NDArray[np.generic]) -> None:
    if prediction.shape != label.shape:
        raise FrameError(
            f"wanted mask and label of one size, found {prediction.shape} and {label.shape}; "
            "resize the mask to the label"
        )


def _boundary(region: Binary) -> NDArray[np.uint8]:
    """The inner one-pixel boundary: person pixels with one of 8 neighbours not person.

    The picture's border does not count as one: a person cut off by the frame has no contour there.
    """
    area = region.astype(np.uint8)
    square = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
    eroded = cv2.erode(area, square, borderType=cv2.BORDER_CONSTANT, borderValue=1)
    return area - eroded


def boundary_f(
    prediction: Binary, label: NDArray[np.uint8], *, radius: int = BOUNDARY_RADIUS
) -> float:
    """F measure of the contours within 3 px: a dilation by OpenCV's ellipse of that radius.

    It reaches up to 3.2 px in the rows beside, 3 px elsewhere; DAVIS dilates by a disk.
    Both contours empty gives 1, one empty 0. Pixels labelled 255 are background in both.
    Martin et al., PAMI 2004; the tolerance by dilation is DAVIS's (Perazzi et al., CVPR 2016).
    """
    _same_size(prediction, label)
    valid = label != IGNORE
    predicted, true = _boundary(prediction & valid), _boundary((label == 1) & valid)
    n_predicted, n_true = int(predicted.sum()), int(true.sum())
    if not n_predicted or not n_true:
        return 1.0 if n_predicted == n_true else 0.0
    side = 2 * radius + 1
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    precision = int((predicted & cv2.dilate(true, disk)).sum()) / n_predicted
    recall = int((true & cv2.dilate(predicted, disk)).sum()) / n_true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def components(region: Binary) -> tuple[int, NDArray[np.int32]]:
    """Return (number of components, labels (H, W) int32, 0 = background), 8-connectivity."""
    count, labels = cv2.connectedComponents(region.astype(np.uint8), connectivity=8)
    return count - 1, labels


def connectivity(prediction: Binary, truth: Binary) -> float:
    """SC, the connectivity score of PP-HumanSeg (WACV-W 2022), for two boolean regions.

    Per true component the mean IoU with the predicted components that touch it (0 if none);
    their sum over (true components + predicted components that touch nothing).
    No cap on components. Both empty gives 1, exactly one empty 0.
    """
    n_true, true = components(truth)
    n_predicted, predicted = components(prediction)
    if not n_true or not n_predicted:
        return 1.0 if n_true == n_predicted else 0.0
    pairs = true.astype(np.int64) * (n_predicted + 1) + predicted
    table = np.bincount(pairs.ravel(), minlength=(n_true + 1) * (n_predicted + 1))
    table = table.reshape(n_true + 1, n_predicted + 1)
    overlap = table[1:, 1:]
    area_true, area_predicted = table[1:].sum(axis=1), table[:, 1:].sum(axis=0)
    ious = overlap / (area_true[:, None] + area_predicted[None] - overlap)
    touching = overlap > 0
    matches = touching.sum(axis=1)
    scores = ious.sum(axis=1) / np.maximum(matches, 1)
    isolated = int(np.count_nonzero(~touching.any(axis=0)))
    return float(scores.sum() / (n_true + isolated))


def clean(truth: Binary, *, share: float = SPECK_SHARE) -> Binary:
    """Drop components and fill holes under `share` of the picture: noise of a label."""
    least = share * truth.size
    kept = _large_only(truth, least)
    return ~_large_only(~kept, least)


def _large_only(region: Binary, least: float) -> Binary:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region.astype(np.uint8), connectivity=8)
    keep = stats[:, cv2.CC_STAT_AREA] >= least
    keep[0] = False
    return np.asarray(keep[labels])


def specks(prediction: Binary, truth: Binary) -> int:
    """Number of predicted components over 5e-4 of the picture that touch no person."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        prediction.astype(np.uint8), connectivity=8
    )
    large = stats[:, cv2.CC_STAT_AREA] > SPECK_SHARE * prediction.size
    touching = np.bincount(labels[truth].ravel(), minlength=len(large)) > 0
    large[0] = False
    return int(np.count_nonzero(large & ~touching))


def chance_miou(seen: float, true: float) -> float:
    """Return the mIoU of a mask that covers `seen` of the pixels wherever, of a truth of `true`.

    Both independent: the intersection is the product of the shares.
    """
    ious = []
    for a, b in ((seen, true), (1 - seen, 1 - true)):
        union = a + b - a * b
        ious.append(a * b / union if union else 1.0)
    return sum(ious) / 2


def collapse(figures: Mapping[str, Any]) -> str:
    """Return a sentence where masks do no better than chance, else "".

    figures: of `Quality.to_dict`. One class everywhere is the commonest; masks far worse than
    chance are the other class's. Labels without a person, or of nothing else, tell nothing.
    """
    seen, true = figures["predicted_share"], figures["true_share"]
    chance = chance_miou(seen, true)
    if not 0 < true < 1 or figures["miou"] > chance + LEAST_ABOVE_CHANCE:
        return ""
    what = "its mask does not follow the person"
    if 0 < seen < 1 and figures["miou"] < chance / 2:
        what = "it sees the background as person: another channel may be the person"
    elif seen < true / 2:
        what = "it sees background everywhere"
    elif seen > (1 + true) / 2:
        what = "it sees person everywhere"
    return (
        f"collapsed: {what} (person in {seen:.1%} of pixels, truth {true:.1%}; person IoU "
        f"{100 * figures['person_iou']:.2f})"
    )


@dataclass
class Quality:
    """The figures of one network on one set, gathered picture by picture.

    boundary, sc, speck_counts: a figure per picture counted, in the order they came. wrong: share
    of a picture's counted pixels that are wrong, an entry per picture given; None for one that is
    not counted.
    """

    areas: Areas = field(default_factory=Areas)
    boundary: list[float] = field(default_factory=list)
    sc: list[float] = field(default_factory=list)
    speck_counts: list[int] = field(default_factory=list)
    wrong: list[float | None] = field(default_factory=list)

    def add(self, mask: NDArray[np.generic], label: NDArray[np.uint8]) -> None:
        """Count one picture: soft mask (any size, 0..1) against its label (H, W).

        One whose label ignores every pixel tells nothing and is not counted, in `n` neither.
        """
        predicted = binary(mask, label.shape[:2])
        valid = label != IGNORE
        counted = int(np.count_nonzero(valid))
        if not counted:
            self.wrong.append(None)
            return
        self.wrong.append(int(np.count_nonzero((predicted != (label == 1)) & valid)) / counted)
        self.areas.add(predicted, label)
        self.boundary.append(boundary_f(predicted, label))
        truth = clean((label == 1) & valid) & valid  # cleaning fills small ignored holes
        self.sc.append(connectivity(predicted & valid, truth))
        self.speck_counts.append(specks(predicted & valid, truth))

    @property
    def n(self) -> int:
        """Number of pictures counted."""
        return len(self.boundary)

    def to_dict(self) -> dict[str, float | int]:
        """Return the figures as fractions, as JSON and manifests hold them."""
        return {
            "miou": self.areas.miou,
            "person_iou": self.areas.person_iou,
            "boundary_f": _mean(self.boundary),
            "sc": _mean(self.sc),
            "specks": _mean(self.speck_counts),
            "predicted_share": self.areas.predicted_share,
            "true_share": self.areas.true_share,
            "n": self.n,
        }


def _mean(values: list[float] | list[int]) -> float:
    return float(np.mean(values)) if values else 0.0


def empty_rooms(shares: list[float]) -> tuple[float, float]:
    """For pictures without people: (mean share of person pixels, share of false alarms).

    shares: per picture, 0..1. A false alarm is a picture with more than 1 % person pixels. Raises
    FrameError where there is no picture.
    """
    if not shares:
        raise FrameError("wanted pictures of empty rooms, found none; add some")
    array = np.asarray(shares, dtype=np.float64)
    return float(array.mean()), float((array > EMPTY_ROOM_SHARE).mean())
