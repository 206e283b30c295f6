"""Clips whose truth is known in every frame, from a seed: people over rooms, moved by formulas.

    python benchmarks/clips.py --data ../shared/data --part report -o DIR     frames/ and masks/

Two parts that share nobody: parameters are chosen on `tuning` and reported on `report` (other
people, other rooms). People: portraits of val.txt that touch only the lower edge, and the tenth of
cutouts/ that training leaves out; heads that talk and parkour (videos/masked) are in `report`
alone. Without data a drawn person stands in a drawn room.

A clip is a function of time, so any frame rate can be rendered; it is rendered at 30 frames/s and
every 2nd, 3rd, 6th frame is what a slower camera sees. Each frame passes a camera: exposure, the
bands of lamps at 50 or 60 Hz, shot and read noise, JPEG. No motion blur but parkour's own.
"""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg.arrays import Label, Picture
from edge_seg.calibration.dataset import load_cutout, load_image, load_label, load_pair, pairs_of
from edge_seg.recording import MaskFolder, PictureFolder
from edge_seg.training.collection import cutouts_of

Floats = NDArray[np.float32]
Time = float

SIZE = (252, 448)
SECONDS = 4.0
FPS = 30.0
PARTS = ("tuning", "report")
MARGIN = 1.12  # rooms are so much larger than the frame, for shake
READOUT = 0.02  # s a rolling shutter takes from the first row to the last


class LabelledFrame(NamedTuple):
    """A frame uint8 (H, W, 3) BGR, its label uint8 (H, W) 0/1 and its time in seconds."""

    frame: Picture
    label: Label
    time: float


@dataclass(frozen=True)
class Pose:
    """Where a person's foot point is (share of width, of height), height in frames, degrees."""

    x: float = 0.5
    y: float = 1.0
    height: float = 0.9
    angle: float = 0.0
    sway: float = 0.0  # share of the person's width by which the head moves against the shoulders


@dataclass(frozen=True)
class Person:
    """Pictures with alpha, shown in turn at 30 a second to and fro; one for a still person."""

    pictures: tuple[Picture, ...]
    alphas: tuple[Picture, ...]

    def at(self, time: float) -> tuple[Picture, Picture]:
        """Return the picture and alpha shown at a time."""
        count = len(self.pictures)
        step = int(time * FPS + 1e-6) % max(1, 2 * count - 2)
        index = step if step < count else 2 * count - 2 - step
        return self.pictures[index], self.alphas[index]


@dataclass(frozen=True)
class Camera:
    """What a camera adds. mains: Hz of the lamps, 0 for daylight. steps: (time, gain) from then."""

    noise: float = 2.5
    mains: float = 0.0
    depth: float = 0.06  # of the lamps' modulation
    steps: tuple[tuple[float, float], ...] = ()
    jpeg: int = 85

    def expose(self, picture: Floats, time: float, rng: np.random.Generator) -> Picture:
        """Return what the sensor delivers of a picture at a time."""
        gain = 1.0
        for since, value in self.steps:
            gain = value if time >= since else gain
        rows = np.arange(picture.shape[0], dtype=np.float32) / picture.shape[0]
        light = np.full_like(rows, gain)
        if self.mains:
            phase = 2 * np.pi * ((2 * self.mains * time) % 1.0 + 2 * self.mains * READOUT * rows)
            light = light * (1 + self.depth * np.sin(phase))
        lit = picture * light[:, None, None].astype(np.float32)
        # A shot noise of sqrt(level) scaled to `noise` at mid-grey, and half of it always.
        deviation = self.noise * (0.5 + 0.5 * np.sqrt(np.clip(lit, 0, 255) / 127.5))
        lit = lit + deviation * rng.standard_normal(lit.shape, dtype=np.float32)
        sensed = np.clip(lit + 0.5, 0, 255).astype(np.uint8)
        _, coded = cv2.imencode(".jpg", sensed, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg])
        return np.asarray(cv2.imdecode(coded, cv2.IMREAD_COLOR), dtype=np.uint8)


Track = Callable[[Time], Pose]
Shake = Callable[[Time], tuple[float, float]]


@dataclass(frozen=True)
class Scene:
    """A room and the people in it, the front ones last; shake moves all of it (px)."""

    room: Picture
    people: tuple[tuple[Person, Track], ...] = ()
    shake: Shake | None = None

    def at(self, time: float) -> tuple[Floats, Label]:
        """Return the picture float32 (H, W, 3) and the label at a time."""
        dx, dy = self.shake(time) if self.shake else (0.0, 0.0)
        picture = self._room(dx, dy)
        label = np.zeros(SIZE, np.uint8)
        for person, path in self.people:
            front, alpha = _placed(person.at(time), path(time), (dx, dy))
            picture += (front - picture) * alpha[..., None]
            label |= (alpha >= 0.5).astype(np.uint8)
        return picture, label

    def _room(self, dx: float, dy: float) -> Floats:
        height, width = SIZE
        scale = MARGIN * max(height / self.room.shape[0], width / self.room.shape[1])
        x = width / 2 - scale * self.room.shape[1] / 2 + dx
        y = height / 2 - scale * self.room.shape[0] / 2 + dy
        move = np.array([[scale, 0, x], [0, scale, y]])
        placed = cv2.warpAffine(
            self.room, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
        )
        return placed.astype(np.float32)


@dataclass(frozen=True)
class Footage:
    """Frames and labels that were filmed, at 30 a second, as a scene."""

    frames: tuple[Picture, ...]
    labels: tuple[Label, ...]

    def at(self, time: float) -> tuple[Floats, Label]:
        """Return the picture and label at a time; after the last, the last."""
        index = min(len(self.frames) - 1, int(time * FPS + 1e-6))
        return self.frames[index].astype(np.float32), self.labels[index]


@dataclass(frozen=True)
class Clip:
    """A clip with truth. scenes: (from when, scene). kind: "head" (nearly still) or "mover".

    frozen: (from, to) in which the camera repeats a frame. dropped: (from, to) without frames.
    jitter: the largest error of a frame's time, as a share of the distance between two.
    """

    name: str
    kind: str
    scenes: tuple[tuple[float, Scene | Footage], ...]
    camera: Camera = field(default_factory=Camera)
    seconds: float = SECONDS
    frozen: tuple[float, float] | None = None
    dropped: tuple[float, float] | None = None
    jitter: float = 0.0

    def render(self, fps: float = FPS) -> Iterator[LabelledFrame]:
        """Yield the clip's frames; the same every time."""
        seed = zlib.crc32(self.name.encode())
        held: tuple[Picture, Label] | None = None
        for index in range(round(self.seconds * fps)):
            rng = np.random.default_rng((seed, round(index * 1e6 / fps)))
            time = (index + self.jitter * rng.uniform(-0.5, 0.5)) / fps
            if self.dropped and self.dropped[0] <= time < self.dropped[1]:
                continue
            if not (self.frozen and self.frozen[0] <= time < self.frozen[1] and held):
                scene = [s for since, s in self.scenes if time >= since or since == 0][-1]
                picture, label = scene.at(time)
                held = (self.camera.expose(picture, time, rng), label)
            yield LabelledFrame(held[0], held[1], time)


def sampled(shots: Sequence[LabelledFrame], fps: float) -> list[LabelledFrame]:
    """Return what a camera of `fps` frames a second sees of shots rendered at 30."""
    step = round(FPS / fps)
    return list(shots[::step])


# --- how people move -----------------------------------------------------------------------------


def _placed(shown: tuple[Picture, Picture], pose: Pose, moved: tuple[float, float]) -> tuple:
    """Lay a person into the frame: (picture, alpha 0..1) of the frame's size, float32."""
    picture, alpha = shown
    height, width = alpha.shape
    scale = pose.height * SIZE[0] / height
    turn = np.deg2rad(pose.angle)
    cos, sin = np.cos(turn) / scale, np.sin(turn) / scale
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(np.float32)
    right = columns - (pose.x * SIZE[1] + moved[0])
    down = rows - (pose.y * SIZE[0] + moved[1])
    x = width / 2 + cos * right + sin * down
    y = height - 0.5 - sin * right + cos * down
    if pose.sway:  # the head leans, the shoulders stay: smooth from 70 % of the height upwards
        lean = np.clip(1 - y / (0.7 * height), 0, 1)
        x = x + (pose.sway * width * lean * lean * (3 - 2 * lean)).astype(np.float32)
    x, y = x.astype(np.float32), y.astype(np.float32)
    # A body cut off below goes on below: the last row repeats, so a turn shows no gap.
    low = np.minimum(y, height - 1)
    cut = alpha[-1].max() > 0
    front = cv2.remap(picture, x, low, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    area = cv2.remap(alpha, x, low if cut else y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return front.astype(np.float32), area.astype(np.float32) / 255


def calm(phase: float = 0.0, x: float = 0.5, height: float = 0.88) -> Track:
    """Sit and talk: the head sways, the body breathes and shifts now and then."""

    def path(t: Time) -> Pose:
        shift = 0.012 * np.tanh(6 * np.sin(2 * np.pi * 0.17 * t + phase))
        return Pose(
            x=x + float(shift),
            height=height * (1 + 0.004 * float(np.sin(2 * np.pi * 0.3 * t + phase))),
            sway=0.035 * float(np.sin(2 * np.pi * 0.55 * t + phase)) * _talks(t, phase),
        )

    return path


def _talks(t: Time, phase: float) -> float:
    """1 while talking, 0 in pauses of about a second."""
    return float(np.clip(1.5 + 3 * np.sin(2 * np.pi * 0.23 * t + 2 * phase), 0, 1))


def seated(t: Time) -> Pose:
    """Stand where the footage has the person."""
    return Pose(x=0.5, height=0.97)


def across(start: float, end: float, height: float = 0.85, y: float = 1.0) -> Track:
    """Walk from one side to another with a walker's bob."""
    return lambda t: Pose(
        x=start + (end - start) * t / SECONDS,
        y=y + 0.012 * float(np.sin(2 * np.pi * 1.9 * t)),
        height=height,
    )


def dance(t: Time) -> Pose:
    """Turn, lean and step: rotation, scale and translation together."""
    return Pose(
        x=0.5 + 0.09 * float(np.sin(2 * np.pi * 0.5 * t)),
        y=0.98,
        height=0.85 * (1 + 0.06 * float(np.sin(2 * np.pi * 0.8 * t))),
        angle=14 * float(np.sin(2 * np.pi * 0.65 * t)),
    )


def approach(t: Time) -> Pose:
    """Come closer until the frame cuts the legs off."""
    return Pose(y=0.95 + 0.12 * t, height=0.55 + 0.22 * t)


def visit(t: Time) -> Pose:
    """Sit, leave for a second, come back."""
    away = np.clip((t - 0.8) / 0.7, 0, 1) - np.clip((t - 2.4) / 0.7, 0, 1)
    return Pose(x=0.5 + 0.8 * float(away * away * (3 - 2 * away)), height=0.88)


def hand_held(t: Time) -> tuple[float, float]:
    """A camera in a hand: a few px, slow and quick parts."""
    x = np.sin(2 * np.pi * 0.7 * t) + 0.35 * np.sin(2 * np.pi * 3.1 * t)
    y = np.cos(2 * np.pi * 0.9 * t) + 0.35 * np.sin(2 * np.pi * 2.7 * t + 1)
    return 4.0 * float(x), 2.8 * float(y)


# --- people and rooms ----------------------------------------------------------------------------


def _keyed(label: Label) -> Picture:
    """A soft alpha from a hard label, a pixel inside so that no old background shows."""
    inner = cv2.erode(label, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3)))
    inner[-1] = label[-1]
    return cv2.GaussianBlur(inner * np.uint8(255), (0, 0), 0.8)


def portraits(data: Path) -> list[Person]:
    """People of val.txt whom only the lower edge of the picture cuts."""
    found = []
    for pair in pairs_of(data / "val.txt"):
        if "ccp" in pair.image.name:  # full bodies; cutouts/ has cleaner ones
            continue
        assert pair.label is not None
        person = load_label(pair.label) == 1
        sides = max(person[:, 0].mean(), person[:, -1].mean())
        if person[0].any() or sides > 0.02 or person[-1].mean() < 0.3 or person.mean() > 0.62:
            continue
        picture, _ = load_pair(pair)
        found.append(Person((picture,), (_keyed(person.astype(np.uint8)),)))
    return found


def cutouts(data: Path) -> list[Person]:
    """The people of cutouts/ that training leaves out."""
    held = map(load_cutout, cutouts_of(data)[1])
    return [Person((picture,), (alpha,)) for picture, alpha in held]


def rooms(data: Path) -> list[Picture]:
    """A spread of backgrounds without the hard negatives, which only validate."""
    folder = data / "backgrounds"
    hard = set((folder / "hard_negatives.txt").read_text(encoding="utf-8").split())
    files = sorted(p for p in folder.rglob("*.jpg") if str(p.relative_to(folder)) not in hard)
    return [load_image(p) for p in files[:: max(1, len(files) // 48)]]


def talking_head(data: Path) -> Person:
    """The keyed head that talks, 25 frames a second shown at 30."""
    footage = filmed(data, "talking_head")
    return Person(footage.frames, tuple(_keyed(label) for label in footage.labels))


def filmed(data: Path, name: str) -> Footage:
    """A clip of videos/masked."""
    pairs = [load_pair(pair) for pair in pairs_of(data / "videos" / "masked" / name)]
    return Footage(tuple(p for p, _ in pairs), tuple(label for _, label in pairs))


def drawn_person(seed: int = 0) -> Person:
    """A head and shoulders made of ellipses, for where there is no data."""
    rng = np.random.default_rng(seed)
    alpha = np.zeros((240, 180), np.uint8)
    cv2.ellipse(alpha, (90, 80), (42, 55), 0, 0, 360, 255, -1)
    cv2.ellipse(alpha, (90, 240), (80, 105), 0, 0, 360, 255, -1)
    cloth = rng.integers(40, 215, (24, 18, 3)).astype(np.uint8)
    picture = cv2.resize(cloth, (180, 240), interpolation=cv2.INTER_CUBIC)
    cv2.ellipse(picture, (90, 80), (42, 55), 0, 0, 360, (150, 180, 225), -1)
    return Person((picture,), (cv2.GaussianBlur(alpha, (0, 0), 0.8),))


def drawn_room(seed: int = 0) -> Picture:
    """A smooth pattern, for where there is no data."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(60, 180, (6, 9, 3)).astype(np.uint8)
    return cv2.resize(coarse, (288, 192), interpolation=cv2.INTER_CUBIC)


@dataclass(frozen=True)
class Cast:
    """Who plays in a part, and where."""

    busts: list[Person]
    bodies: list[Person]
    rooms: list[Picture]


def cast(data: Path | None, part: str) -> Cast:
    """Return the people and rooms of a part; the two parts share none."""
    if part not in PARTS:
        raise ValueError(f"wanted a part in {PARTS}, found {part!r}")
    first = PARTS.index(part)
    if data is None:
        people = [drawn_person(seed) for seed in range(first, 20, 2)]
        return Cast(people, people, [drawn_room(seed) for seed in range(first, 40, 2)])
    return Cast(portraits(data)[first::2], cutouts(data)[first::2], rooms(data)[first::2])


def clips(data: Path | None, part: str) -> list[Clip]:
    """Return the clips of a part, "tuning" or "report". data: the data folder, or None: drawn."""
    who = cast(data, part)
    made = [*_heads(who, part), *_movers(who, part)]
    if part == "report" and data is not None:
        head, cameras = talking_head(data), _cameras()
        for i, (name, camera) in enumerate(cameras.items()):
            scene = Scene(who.rooms[-1 - i], ((head, seated),))
            made.append(Clip(f"report/talking head, {name}", "head", ((0, scene),), camera, 5.0))
        parkour = filmed(data, "parkour")
        seconds = len(parkour.frames) / FPS
        made.append(Clip("report/parkour", "mover", ((0, parkour),), seconds=seconds))
    return made


def _cameras() -> dict[str, Camera]:
    return {
        "daylight": Camera(),
        "50 Hz lamps": Camera(mains=50),
        "60 Hz lamps, dim": Camera(mains=60, noise=5.0),
        "exposure steps": Camera(steps=((1.0, 0.8), (2.2, 1.15), (3.3, 1.0))),
    }


def _heads(who: Cast, part: str) -> list[Clip]:
    made = []
    for i, (name, camera) in enumerate(_cameras().items()):
        person = who.busts[i % len(who.busts)]
        path = calm(phase=i, x=0.42 + 0.05 * i)
        scene = Scene(who.rooms[i], ((person, path),))
        made.append(Clip(f"{part}/speaker, {name}", "head", ((0, scene),), camera))
    return made


def _movers(who: Cast, part: str) -> list[Clip]:
    busts, bodies, places = who.busts, who.bodies, who.rooms
    scenes = {
        "walks through": Scene(places[4], ((bodies[0], across(-0.1, 1.1)),)),
        "dances": Scene(places[5], ((bodies[6 % len(bodies)], dance),)),
        "approaches": Scene(places[6], ((bodies[2], approach),)),
        "leaves and enters": Scene(places[7], ((busts[-1], visit),)),
        "two cross": Scene(
            places[8],
            ((bodies[3], across(0.1, 0.9, 0.8, 0.96)), (bodies[7], across(0.95, 0.05, 0.9))),
        ),
        "camera shake": Scene(places[9], ((busts[-2], calm(2.0)),), hand_held),
    }
    made = [
        Clip(f"{part}/{name}", "mover", ((0, scene),), Camera(mains=50 if i % 2 else 0))
        for i, (name, scene) in enumerate(scenes.items())
    ]
    first = Scene(places[10], ((busts[-3], calm(0.5, 0.4)),))
    second = Scene(places[11], ((busts[-2], calm(1.5, 0.6, 0.8)),))
    cut = ((0.0, first), (1.5, second), (2.9, first))
    incidents = {"frozen": (0.6, 0.9), "dropped": (2.1, 2.4), "jitter": 0.8}
    made.append(Clip(f"{part}/cuts, frozen, dropped", "mover", cut, **incidents))  # type: ignore
    return made


def save(clip: Clip, folder: Path, fps: float = FPS) -> None:
    """Write a clip as frames/ and masks/, as `edge-seg eval --labels` reads them."""
    frames, masks = PictureFolder(folder / "frames"), MaskFolder(folder / "masks")
    for i, shot in enumerate(clip.render(fps)):
        frames.write(shot.frame, f"{i:05d}")
        masks.write(shot.label * np.uint8(255), f"{i:05d}")


def main() -> int:
    """Write the clips of a part to disk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="the data folder; without it people are drawn")
    parser.add_argument("--part", choices=PARTS, default="report")
    parser.add_argument("--fps", type=float, default=FPS)
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    for clip in clips(args.data, args.part):
        target = args.output / clip.name.replace(",", "").replace(" ", "-")
        save(clip, target, args.fps)
        print(target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
