"""The main job, start to end, on nothing but what this repository and two packages carry.

    python examples/demo.py [FOLDER]        (make demo does the installing too)

Converts the network that ships to int8 with calibration frames, runs it over a clip, measures it,
and leaves in FOLDER (default demo/): bundle/, clip.webm, blurred.webm, report.html, bench.txt,
bench.json. The people are public-domain portraits (portraits.py), moved over generated rooms.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from portraits import portraits

from edge_seg.bundle import DEFAULT_BUNDLE, MANIFEST
from edge_seg.recording import VideoFile

HEIGHT, WIDTH, FPS, SECONDS = 480, 640, 15, 6
Frame = NDArray[np.uint8]


def room(random: np.random.Generator) -> Frame:
    """A wall, a floor, furniture-like boxes and a lamp's falloff: seeded, nobody in it."""
    wall, floor = (random.integers(60, 230, 3) for _ in range(2))
    picture = np.empty((HEIGHT, WIDTH, 3), np.float32)
    edge = int(random.uniform(0.6, 0.8) * HEIGHT)
    picture[:edge], picture[edge:] = wall, floor * 0.7
    for _ in range(int(random.integers(3, 8))):
        x, y = int(random.integers(0, WIDTH)), int(random.integers(0, edge))
        w, h = (int(v) for v in random.integers(40, 220, 2))
        color = tuple(float(v) for v in random.integers(20, 240, 3))
        cv2.rectangle(picture, (x, y), (x + w, y + h), color, -1)
    ys, xs = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    lamp_x, lamp_y = random.uniform(0, WIDTH), random.uniform(0, HEIGHT / 2)
    light = 1.15 - 0.6 * np.hypot(xs - lamp_x, ys - lamp_y) / WIDTH
    picture = cv2.GaussianBlur(picture * light[..., None], (5, 5), 0)
    return np.clip(picture + random.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def paste(
    background: Frame, person: Frame, *, scale: float, center: float
) -> tuple[Frame, NDArray[np.uint8]]:
    """Stand a cut-out on the lower edge; return the frame and its label (0, 1).

    scale: the person's height over the frame's; center: 0..1 across the frame.
    """
    factor = scale * HEIGHT / person.shape[0]
    person = cv2.resize(person, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    shift = (center * WIDTH - person.shape[1] / 2, HEIGHT - person.shape[0])
    affine = np.array([[1, 0, shift[0]], [0, 1, shift[1]]], np.float32)
    placed = cv2.warpAffine(person, affine, (WIDTH, HEIGHT))
    alpha = placed[..., 3:].astype(np.float32) / 255
    mixed = placed[..., :3] * alpha + background * (1 - alpha)
    return mixed.astype(np.uint8), (alpha[..., 0] >= 0.5).astype(np.uint8)


def write_pictures(folder: Path, count: int, seed: int) -> Path:
    """Write `count` labelled composites and their list; return the list's path."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    people = list(portraits().values())
    lines = []
    for index in range(count):
        person = people[index % len(people)]
        person = person[:, ::-1] if random.random() < 0.5 else person
        frame, label = paste(
            room(random), person, scale=random.uniform(0.5, 0.95), center=random.uniform(0.25, 0.75)
        )
        cv2.imwrite(str(folder / f"{index:03d}.jpg"), frame)
        cv2.imwrite(str(folder / f"{index:03d}.png"), label)
        lines.append(f"{index:03d}.jpg {index:03d}.png")
    path = folder / "list.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_clip(path: Path) -> None:
    """Write a clip: Collins sways in a room and comes a little closer."""
    person, background = portraits()["collins"], room(np.random.default_rng(7))
    with VideoFile(path, fps=FPS) as video:
        for index in range(FPS * SECONDS):
            sway = float(np.sin(2 * np.pi * index / (FPS * SECONDS)))
            frame, _ = paste(background, person, scale=0.75 + 0.1 * sway, center=0.5 + 0.15 * sway)
            video.write(frame)


def edge_seg(*words: str | Path, save: Path | None = None) -> None:
    """Run one `edge-seg` command, show it as a user would type it; stop where it fails."""
    command = [str(w) for w in words]
    print(f"\n$ edge-seg {' '.join(command)}", flush=True)
    full = [sys.executable, "-m", "edge_seg", *command]
    if save is None:
        subprocess.run(full, check=True)
        return
    text = subprocess.run(full, check=True, stdout=subprocess.PIPE, text=True).stdout
    save.write_text(text, encoding="utf-8")
    print(text)


def main(folder: Path) -> None:
    """Do it all."""
    if not (DEFAULT_BUNDLE / MANIFEST).is_file():
        print("no default network ships yet: convert one of yours with `edge-seg convert`")
        return
    folder.mkdir(parents=True, exist_ok=True)
    calibration = write_pictures(folder / "calibration", 60, seed=1)
    labels = write_pictures(folder / "labelled", 40, seed=2)
    write_clip(folder / "clip.webm")
    bundle = folder / "bundle"
    edge_seg("convert", "--int8", "--calibration", calibration, "--labels", labels, "-o", bundle)
    clip, blurred = folder / "clip.webm", folder / "blurred.webm"
    edge_seg("run", bundle, "--source", clip, "--background", "blur", "-o", blurred)
    edge_seg(
        "bench",
        bundle,
        "--source",
        clip,
        "--json",
        folder / "bench.json",
        save=folder / "bench.txt",
    )
    report = folder / "report.html"
    edge_seg("eval", bundle, "--labels", labels, "--artifact", "all", "--report", report)
    print(f"\nLook at {blurred}, {report} (in a browser) and {folder / 'bench.txt'}.")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo"))
