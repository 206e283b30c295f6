"""A network whose answer is known: "person" where a neighbourhood is bright.

It is a real ONNX file, and what it says of `toy_pictures` (bright people in dark rooms) is right:
so whatever a conversion of it gets wrong, the conversion did.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import ModelProto

from edge_seg.spec import InputSpec, OutputSpec
from tests.tiny_onnx import Builder

HEIGHT, WIDTH = 48, 64
INPUT = InputSpec(HEIGHT, WIDTH)
OUTPUT = OutputSpec("probability", 1)
SPEC = """\
[input]
height = 48
width = 64
mean = [0.5, 0.5, 0.5]
std = [0.5, 0.5, 0.5]
color = "rgb"
fit = "letterbox"
[output]
activation = "probability"
channel = 1
"""
GAIN = 6.0  # logit of a white neighbourhood, -GAIN of a black one


def bright_is_person(
    batch: int | str = 1, *, channels_last: bool = False, name: str = "answer"
) -> ModelProto:
    """Two classes and a Softmax; the second is the person."""
    b = Builder((batch, 3, HEIGHT, WIDTH))
    kernel = np.full((2, 3, 3, 3), GAIN / 27)
    kernel[0] *= -1
    logits = b.op("Conv", "picture", b.constant(kernel), pads=[1, 1, 1, 1])
    last = b.op("Softmax", logits, axis=1)
    if channels_last:
        last = b.op("Transpose", last, perm=[0, 2, 3, 1])
    model = b.model(b.op("Identity", last))
    made = model.graph.node[-1].output[0]
    model.graph.node[-1].output[0] = model.graph.output[0].name = name
    assert made != name
    return model


def save(folder: Path, model: ModelProto | None = None) -> Path:
    """Write the network, and its contract beside it; return the ONNX file's path."""
    path = folder / "bright.onnx"
    onnx.save(model or bright_is_person(), path)
    (folder / "bright.toml").write_text(SPEC, encoding="utf-8")
    return path


def plain_pictures(folder: Path, level: int, count: int = 12) -> Path:
    """Write pictures of nearly one grey level: nothing anyone should calibrate with."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    for i in range(count):
        noise = random.integers(-3, 4, (60, 80, 3)) + level
        cv2.imwrite(str(folder / f"{i}.png"), np.clip(noise, 0, 255).astype(np.uint8))
    return folder
