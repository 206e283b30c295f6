"""Training samples: what a kiosk or a webcam may show, made from the pictures of a store.

Sample `n` of a run depends on (seed, n) alone: not on the process, the worker or what came
before, so a run resumes bit-equal anywhere and any number of processes share one order.
A sample is (picture uint8 (S, S, 3) RGB, target uint8 (S, S), weight uint8 (S, S)).

Frames of any proportions are stretched to the square, as at run time. All warps are OpenCV's on
uint8; colour is lookup tables and one 3x3 matrix.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Picture
from edge_seg.training import cards, outlines
from edge_seg.training.outlines import Plane, about
from edge_seg.training.recipe import Recipe
from edge_seg.training.store import PictureStore, Planes

Sample = tuple[Picture, Plane, Plane]
Rng = np.random.Generator
Box = tuple[float, float, float, float]  # centre x, centre y, width, height, in pixels
LANDSCAPE = 16 / 9
# Of the composites: a plain ground (a studio wall, a green screen) alone does not say "nobody".
ON_CARD = 0.06
# Heights of people, in frames: close ones, close ones alone, and small ones.
NEAR, NEAR_ALONE, SMALL = (0.4, 1.15), (0.55, 1.15), (0.2, 0.6)
LEANS = 20.0  # degrees, the spread of small people's turns: who jumps, climbs or lies
DECOYS = 3  # at most so many in a composite that has any


def _chance(rng: Rng, probability: float) -> bool:
    return bool(rng.random() < probability)


def _pick(rng: Rng, indices: NDArray[np.int64]) -> int:
    return int(indices[rng.integers(len(indices))])


def _halved(picture: Picture, planes: Planes) -> tuple[Picture, Planes]:
    size = (max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2))
    return (
        cv2.resize(picture, size, interpolation=cv2.INTER_AREA),
        cv2.resize(planes, size, interpolation=cv2.INTER_AREA),
    )


def _box_inside(rng: Rng, shape: tuple[int, ...], box_w: float, box_h: float) -> Box:
    """A box of that size anywhere in a picture of `shape`."""
    centre_x = rng.uniform(box_w / 2, shape[1] - box_w / 2)
    return centre_x, rng.uniform(box_h / 2, shape[0] - box_h / 2), box_w, box_h


def crop_box(rng: Rng, height: int, width: int) -> Box:
    """A box in a picture: near the whole, a crop, a frame.

    A third of the boxes are frames of the other form: of an upright picture what a webcam would
    have cut, of a landscape one what a kiosk would; biased to the upper half, where heads are.
    """
    if _chance(rng, 0.35):
        if width > height:
            aspect = math.exp(rng.uniform(-math.log(LANDSCAPE), math.log(1.1)))
            box_h = height * rng.uniform(0.6, 1.0)
            box_w = box_h * aspect
            left = rng.beta(2.0, 2.0) * max(width - box_w, 0.0)  # people are seldom at the sides
            top = rng.beta(1.0, 2.0) * (height - box_h)
            return left + box_w / 2, top + box_h / 2, box_w, box_h
        aspect = math.exp(rng.uniform(math.log(0.9), math.log(LANDSCAPE)))
        box_w = width * rng.uniform(0.6, 1.0)
        box_h = min(box_w / aspect, 1.05 * height)
        top = rng.beta(1.0, 2.0) * max(height - box_h, 0.0)
        left = rng.uniform(0.0, width - box_w)
        return left + box_w / 2, top + box_h / 2, box_w, box_h
    scale = rng.uniform(0.9, 1.08) if _chance(rng, 0.55) else rng.uniform(0.5, 1.2)
    stretch = math.exp(rng.normal(0.0, 0.12))
    box_w, box_h = width * scale * stretch, height * scale / stretch
    slack_x, slack_y = abs(width - box_w) / 2, abs(height - box_h) / 2
    centre_x = width / 2 + rng.uniform(-slack_x, slack_x)
    return centre_x, height / 2 + rng.uniform(-slack_y, slack_y), box_w, box_h


def _matrix(box: Box, size: int, *, turn: float, flip: bool) -> NDArray[np.float64]:
    """The affine map from the pixels of a size x size square to the pixels under `box`."""
    centre_x, centre_y, width, height = box
    step_x, step_y = width / size * (-1 if flip else 1), height / size
    cosine, sine = math.cos(turn), math.sin(turn)
    linear = np.array([[cosine * step_x, -sine * step_y], [sine * step_x, cosine * step_y]])
    middle = np.array([(size - 1) / 2, (size - 1) / 2])
    offset = np.array([centre_x - 0.5, centre_y - 0.5]) - linear @ middle
    return np.concatenate([linear, offset[:, None]], axis=1)


def _warp(
    picture: Picture, planes: Planes, matrix: NDArray[np.float64], size: int
) -> tuple[Picture, Planes]:
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    step = math.hypot(matrix[0, 0], matrix[1, 0])
    if min(step, math.hypot(matrix[0, 1], matrix[1, 1])) > 1.7:  # else the warp would alias
        picture, planes = _halved(picture, planes)
        matrix = matrix / 2
        matrix[:, 2] -= 0.25  # half-pixel centres
    return (
        cv2.warpAffine(picture, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_REPLICATE),
        cv2.warpAffine(planes, matrix, (size, size), flags=flags, borderMode=cv2.BORDER_CONSTANT),
    )


def _empty(size: int) -> Planes:
    """The planes of a picture without a person, all of which counts."""
    planes = np.zeros((size, size, 2), np.uint8)
    planes[:, :, 1] = 255
    return planes


class Renderer:
    """Renders the samples of a run from a store, as often of each kind as its recipe asks for."""

    def __init__(self, store: PictureStore, recipe: Recipe) -> None:
        self._store = store
        self._recipe = recipe
        self._groups = store.groups
        cv2.setNumThreads(1)  # a sample is too small to share between threads

    def sample(self, number: int, size: int) -> Sample:
        """Return sample `number` of the run at size x size pixels."""
        rng = np.random.default_rng([self._recipe.seed, number])
        kind = self._kind(rng)
        if kind == "card":
            picture, planes = cards.draw(rng, size), _empty(size)
        elif kind == "composite":
            picture, planes = self._composite(rng, size)
        else:
            picture, planes = self._photograph(rng, size, kind)
        if len(self._groups["room"]) and _chance(rng, 0.1):
            self._hide(rng, picture, planes)
        picture = degrade(rng, recolour(rng, picture))
        rgb = cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)
        return rgb, np.ascontiguousarray(planes[:, :, 0]), np.ascontiguousarray(planes[:, :, 1])

    def _kind(self, rng: Rng) -> str:
        draw, recipe = rng.random(), self._recipe
        kinds = [("room", recipe.rooms), ("composite", recipe.composites)]
        for kind, share in [*kinds, ("unlabelled", recipe.unlabelled)]:
            draw -= share
            if draw < 0:
                needed = "room" if kind == "composite" else kind
                return kind if len(self._groups[needed]) else "labelled"
        return "card" if draw < recipe.cards else "labelled"

    def _photograph(self, rng: Rng, size: int, group: str) -> tuple[Picture, Planes]:
        if not len(self._groups[group]):
            group = next(name for name, members in self._groups.items() if len(members))
        picture, planes = self._store[_pick(rng, self._groups[group])]
        box = crop_box(rng, picture.shape[0], picture.shape[1])
        turn = math.radians(rng.normal(0.0, 7.0)) if _chance(rng, 0.5) else 0.0
        matrix = _matrix(box, size, turn=turn, flip=_chance(rng, 0.5))
        return _warp(picture, planes, matrix, size)

    def _hide(self, rng: Rng, picture: Picture, planes: Planes) -> None:
        """Lay a piece of a room over the lower edge, in place: the desk, the back of a chair.

        What stands before a person is not the person; without such samples a network takes
        everything between the person and the frame's lower edge for one.
        """
        size = picture.shape[0]
        shape = outlines.front(rng, size)
        piece = self._piece(rng, size, least=0.15)
        cover = cv2.GaussianBlur(shape, (3, 3), 0).astype(np.float32)[:, :, None] / 255
        picture[:] = np.rint(picture + cover * (piece - picture))
        planes[:, :, 0] = np.rint(planes[:, :, 0] * (1 - cover[:, :, 0]))
        planes[:, :, 1][shape > 0] = 255

    def _piece(self, rng: Rng, size: int, *, least: float) -> NDArray[np.float32]:
        """A piece of a room, turned anyhow, on an S x S square.

        least: of the room's shorter side; the most is 0.9. A small piece is nearly one colour.
        """
        scene, room = self._store[_pick(rng, self._groups["room"])]
        side = min(scene.shape[:2]) * rng.uniform(least, 0.9)
        box = _box_inside(rng, scene.shape, side, side)
        matrix = _matrix(box, size, turn=rng.uniform(0.0, 2 * math.pi), flip=False)
        return _warp(scene, room, matrix, size)[0].astype(np.float32)

    def _composite(self, rng: Rng, size: int) -> tuple[Picture, Planes]:
        """One to four persons laid over a room, far ones first; half of the groups side by side."""
        room = _pick(rng, self._groups["room"])
        if self._recipe.cards and _chance(rng, ON_CARD):
            picture, planes = cards.draw(rng, 2 * size), _empty(2 * size)
        else:
            picture, planes = self._store[room]
        height, width = picture.shape[:2]
        aspect = math.exp(rng.uniform(-math.log(LANDSCAPE), math.log(LANDSCAPE)))
        box_h = min(height, width / aspect) * rng.uniform(0.6, 1.0)
        box = _box_inside(rng, picture.shape, box_h * aspect, box_h)
        matrix = _matrix(box, size, turn=0.0, flip=_chance(rng, 0.5))
        scene, _ = _warp(picture, planes, matrix, size)
        canvas, mask = scene.astype(np.float32), np.zeros((size, size), np.float32)
        persons = int(rng.choice([1, 2, 3, 4], p=[0.4, 0.3, 0.2, 0.1]))
        small = self._recipe.small > 0 and _chance(rng, self._recipe.small)
        heights = SMALL if small else NEAR if persons > 1 else NEAR_ALONE
        tallness = np.sort(rng.uniform(*heights, persons))
        if self._recipe.decoys and _chance(rng, self._recipe.decoys):
            for tall in rng.uniform(*heights, int(rng.integers(1, DECOYS + 1))):
                thing, alpha = self._decoy(rng, size, tall=float(tall), aspect=aspect, small=small)
                canvas += alpha[:, :, None] * (thing - canvas)
        places: list[float | None] = [None] * persons
        if persons > 1 and _chance(rng, 0.5):
            places = [float(place) for place in rng.permutation(persons) + 0.5]
        for tall, place in zip(tallness, places, strict=True):
            at = None if place is None else place / persons - 0.5
            person, alpha = self._person(
                rng, size, tall=float(tall), aspect=aspect, at=at, small=small
            )
            cover = alpha[:, :, None]
            canvas += cover * (person - canvas)
            mask = np.maximum(mask, alpha)
        out = _empty(size)
        out[:, :, 0] = np.rint(mask * 255)
        return np.rint(canvas).astype(np.uint8), out

    def _decoy(
        self, rng: Rng, size: int, *, tall: float, aspect: float, small: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """What stands where a person might and is none: a thing, and its alpha 0..1.

        A post's outline, or a person's, filled with a piece of a room, half of the time lit from
        one side: what is tall and stands out is not a person for that alone.
        """
        if _chance(rng, 0.25):  # seldom: a person against the light is a plain outline too
            _, alpha = self._person(rng, size, tall=tall, aspect=aspect, at=None, small=small)
        else:
            alpha = cv2.GaussianBlur(outlines.post(rng, size, tall), (3, 3), 0) / np.float32(255)
        thing = self._piece(rng, size, least=0.05) * np.exp(rng.normal(0.0, 0.3, 3)).astype(
            np.float32
        )
        if _chance(rng, 0.5):
            thing = thing + rng.uniform(0.0, 200.0)  # white, painted, metal
        if _chance(rng, 0.5):
            dark, bright = rng.uniform(0.4, 1.2, 2)
            light = np.linspace(dark, bright, size, dtype=np.float32)
            thing = thing * light[None, :, None]
        return np.clip(thing, 0, 255).astype(np.float32), alpha.astype(np.float32)

    def _person(
        self, rng: Rng, size: int, *, tall: float, aspect: float, at: float | None, small: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A person `tall` frame heights high, and its alpha 0..1, on an S x S square.

        at: frame widths to the right of the middle; None: anywhere. small: a whole body may be at
        any height in the frame, and lean.
        """
        cutouts = self._groups["cutout"]
        whole = len(cutouts) > 0 and (not len(self._groups["labelled"]) or _chance(rng, 0.4))
        group = cutouts if whole else self._groups["labelled"]
        picture, planes = self._store[_pick(rng, group)]
        height, width = picture.shape[:2]
        box_h = height / tall
        box_w = box_h * aspect
        if at is None:
            reach = max(box_w - width, 0.0) / 2 + 0.2 * width
            centre_x = width / 2 + rng.uniform(-reach, reach)
        else:
            centre_x = width / 2 - (at + rng.normal(0.0, 0.03)) * box_w
        # Photographs end at the lower edge, where the body was cut; cutouts may stand anywhere.
        drop = rng.uniform(-0.15, 0.15) * box_h if whole else -rng.uniform(0.0, 0.15) * height
        turn = math.radians(rng.normal(0.0, 4.0))
        centre_y = height - box_h / 2 + drop
        if small and (whole or not planes[-1, :, 0].any()):
            centre_y = height - box_h / 2 + (1 - rng.uniform(0.9 * tall, 1.1)) * box_h
            turn = math.radians(rng.normal(0.0, LEANS))
            centre_x, centre_y = about((centre_x, centre_y), (width / 2, height / 2), turn)
        box = (centre_x, centre_y, box_w, box_h)
        matrix = _matrix(box, size, turn=turn, flip=_chance(rng, 0.5))
        person, warped = _warp(picture, planes, matrix, size)
        alpha = cv2.GaussianBlur(warped[:, :, 0], (3, 3), 0).astype(np.float32) / 255
        gain = np.float32(math.exp(rng.normal(0.0, 0.15)))
        return np.clip(person.astype(np.float32) * gain, 0, 255), alpha


def recolour(rng: Rng, picture: Picture) -> Picture:
    """Saturation, hue and channel gains (one 3x3 matrix), then brightness, contrast and gamma."""
    if _chance(rng, 0.5):
        saturation = 0.0 if _chance(rng, 0.2) else math.exp(rng.normal(0.0, 0.3))
        grey = np.full((3, 1), 1.0) @ np.array([[0.114, 0.587, 0.299]])  # BT.601 luma of BGR
        matrix = saturation * np.eye(3) + (1 - saturation) * grey
        matrix = matrix + rng.normal(0.0, 0.04, (3, 3))
        matrix = np.diag(np.exp(rng.normal(0.0, 0.1, 3))) @ matrix
        picture = cv2.transform(picture, matrix)
    if _chance(rng, 0.7):
        gamma, gain = math.exp(rng.normal(0.0, 0.25)), math.exp(rng.normal(0.0, 0.2))
        if _chance(rng, 0.14):  # a dark room
            gain *= rng.uniform(0.12, 0.6)
        ramp = (np.arange(256) / 255.0) ** gamma
        ramp = (ramp - 0.5) * math.exp(rng.normal(0.0, 0.2)) + 0.5
        table = np.clip(ramp * gain * 255 + rng.normal(0.0, 12.0), 0, 255)
        picture = cv2.LUT(picture, np.rint(table).astype(np.uint8))
    return picture


def degrade(rng: Rng, picture: Picture) -> Picture:
    """What lens, sensor and codec do: blur, motion, noise, JPEG."""
    if _chance(rng, 0.12):
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.8))
    elif _chance(rng, 0.08):
        picture = cv2.filter2D(picture, -1, _motion_kernel(rng))
    if _chance(rng, 0.15):
        noise = np.empty(picture.shape, np.int16)
        cv2.setRNGSeed(int(rng.integers(1 << 31)))
        cv2.randn(noise, 0, rng.uniform(2.0, 16.0))
        picture = cv2.add(picture, noise, dtype=cv2.CV_8U)
    if _chance(rng, 0.2):
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 85))]
        _, code = cv2.imencode(".jpg", picture, quality)
        picture = np.asarray(cv2.imdecode(code, cv2.IMREAD_COLOR), dtype=np.uint8)
    return picture


def _motion_kernel(rng: Rng) -> NDArray[np.float32]:
    length = int(rng.integers(3, 10)) | 1
    kernel = np.zeros((length, length), np.float32)
    angle, middle = rng.uniform(0.0, math.pi), length // 2
    for offset in range(-middle, middle + 1):
        row = middle + round(offset * math.sin(angle))
        kernel[row, middle + round(offset * math.cos(angle))] = 1.0
    return kernel / kernel.sum()
