"""A data set small enough to train on in a test: bright ellipses (people) in dark, noisy rooms."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

SIZE = (60, 80)


def picture(seed: int, *, person: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 (60, 80, 3) and its label 0/1."""
    generator = np.random.default_rng(seed)
    frame = generator.integers(0, 90, (*SIZE, 3)).astype(np.uint8)
    label = np.zeros(SIZE, np.uint8)
    if person:
        centre = (int(generator.integers(25, 55)), 60)
        cv2.ellipse(label, centre, (16, int(generator.integers(25, 45))), 0, 0, 360, 1, -1)
        frame[label == 1] = generator.integers(170, 255, 3)
    return frame, label


def write(folder: Path, *, train: int = 8, val: int = 4, rooms: int = 3) -> Path:
    """train.txt, val.txt and backgrounds/ in `folder`; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, first, count in (("train", 0, train), ("val", 1000, val)):
        (folder / name).mkdir()
        lines = []
        for seed in range(first, first + count):
            frame, label = picture(seed)
            cv2.imwrite(str(folder / name / f"{seed}.png"), frame)
            cv2.imwrite(str(folder / name / f"{seed}_label.png"), label)
            lines.append(f"{name}/{seed}.png {name}/{seed}_label.png\n")
        (folder / f"{name}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "backgrounds").mkdir()
    for seed in range(rooms):
        cv2.imwrite(str(folder / f"backgrounds/{seed}.png"), picture(seed, person=False)[0])
    return folder
