"""Small PaddlePaddle networks, written by PaddlePaddle itself: run in its environment, not here.

argv: "old" or "new", and a folder. Writes NAME/model.pdmodel (old) or NAME/inference.json (new)
with its weights, and NAME.npy, what PaddlePaddle's eager network answers to `picture.npy`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

os.environ["FLAGS_enable_pir_api"] = "1" if sys.argv[1] == "new" else "0"
import paddle  # noqa: E402
import paddle.nn.functional as F  # noqa: E402
from paddle import nn  # noqa: E402

HEIGHT, WIDTH = 48, 64
STATIC, OPEN = [1, 3, HEIGHT, WIDTH], [-1, 3, -1, -1]


class Network(nn.Layer):  # type: ignore[misc]
    """As PP-HumanSeg's: batch norm, depthwise, hard swish, a gate, an upsampling to the picture."""

    def __init__(self, classes: int, end: Callable[[Any], Any]) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False)
        self.norm = nn.BatchNorm2D(8)
        self.depthwise = nn.Conv2D(8, 8, 3, padding=1, groups=8)
        self.last = nn.Conv2D(8, classes, 1)
        self.end = end

    def forward(self, x: Any) -> Any:
        y = F.relu(self.norm(self.first(x)))
        y = F.hardswish(self.depthwise(y))
        y = y * F.hardsigmoid(F.adaptive_avg_pool2d(y, 1))
        y = F.interpolate(4.0 * self.last(y), size=paddle.shape(x)[2:], mode="bilinear")
        return self.end(y)


class Bright(nn.Layer):  # type: ignore[misc]
    """bright_network.py's: person where a neighbourhood is bright, right about toy pictures."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 2, 3, padding=1, bias_attr=False)
        kernel = np.full((2, 3, 3, 3), 6 / 27, np.float32)
        kernel[0] *= -1
        self.conv.weight.set_value(kernel)

    def forward(self, x: Any) -> Any:
        return F.softmax(self.conv(x), axis=1)


def softmax(y: Any) -> Any:
    return F.softmax(y, axis=1)


def strange(y: Any) -> Any:
    """An operator that paddle2onnx does not have."""
    return paddle.lgamma(y)


def giant(y: Any) -> Any:
    """A constant of 40 GB, a line in the program."""
    return y + paddle.full([100000, 100000], 1.0)[0, 0]


NETWORKS: dict[str, tuple[list[int], int, Callable[[Any], Any]]] = {
    "fixed": (STATIC, 2, softmax),
    "open": (OPEN, 2, softmax),
    "five": (OPEN, 5, softmax),
    "labels": (STATIC, 2, lambda y: paddle.argmax(y, axis=1)),
    "strange": (STATIC, 2, strange),
    "giant": (STATIC, 2, giant),
    "bright": (OPEN, 2, softmax),
}


def main(folder: Path, stem: str) -> None:
    paddle.seed(3)
    picture = np.random.default_rng(1).uniform(-1, 1, STATIC).astype(np.float32)
    np.save(folder / "picture.npy", picture)
    for name, (shape, classes, end) in NETWORKS.items():
        if name == "labels" and stem == "model":
            continue  # PaddlePaddle 3.3 no longer writes an argmax the old way
        network = Bright() if name == "bright" else Network(classes, end)
        network(paddle.rand(STATIC)) if name != "giant" else None  # fills the batch norm's averages
        network.eval()
        spec = [paddle.static.InputSpec(shape, "float32", "x")]
        paddle.jit.save(network, str(folder / name / stem), input_spec=spec)
        if name != "giant":
            np.save(folder / f"{name}.npy", network(paddle.to_tensor(picture)).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[2]), "inference" if sys.argv[1] == "new" else "model")
