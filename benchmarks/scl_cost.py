"""What SCL adds to a training step: batch 32 at 192x192 (budget 20 %).

    python benchmarks/scl_cost.py [--shape base] [--threads 2]

The loss is taken on the logits' own grid, as training does, and at full size for comparison. The
masks are ellipses with noise on their probabilities: ragged contours and specks, as early training
has them. Rendering of samples is not counted as part of the step (it would flatter SCL).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch

from edge_seg.training.connectivity import connectivity_loss
from edge_seg.training.network import PortraitNet

BATCH, SIDE, ROUNDS = 32, 192, 9


def masks(side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities float32 and labels uint8, [BATCH, side, side]."""
    random = np.random.default_rng(0)
    labels = np.zeros((BATCH, side, side), np.uint8)
    for label in labels:
        axes = (int(side * random.uniform(0.2, 0.4)), int(side * random.uniform(0.4, 0.9)))
        cv2.ellipse(label, (side // 2, side), axes, 0, 0, 360, 1, -1)
    soft = np.stack([cv2.GaussianBlur(label.astype(np.float32), (0, 0), 2) for label in labels])
    soft += random.normal(0, 0.15, soft.shape).astype(np.float32)
    return torch.from_numpy(np.clip(soft, 0.001, 0.999)), torch.from_numpy(labels)


def median_ms(calls: list[Callable[[], None]]) -> list[float]:
    """Median time of each call, the calls taking turns."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, taken in zip(calls, times, strict=True):
            begun = time.perf_counter()
            call()
            taken.append(1e3 * (time.perf_counter() - begun))
    return [float(np.median(taken[1:])) for taken in times]


def step(network: PortraitNet) -> Callable[[], None]:
    """Forward, backward and AdamW of a batch."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    pictures = torch.rand(BATCH, 3, SIDE, SIDE).to(memory_format=torch.channels_last)

    def call() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(pictures)
        logits.float().square().mean().backward()
        optimizer.step()

    return call


def scl(side: int) -> Callable[[], None]:
    """Forward and backward of the loss."""
    probability, label = masks(side)

    def call() -> None:
        connectivity_loss(probability.clone().requires_grad_(True), label).sum().backward()

    return call


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", default="base")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    network = PortraitNet(args.shape)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    whole, grid, full = median_ms([step(network), scl(SIDE // network.shape.stride), scl(SIDE)])
    print(
        f"step {whole:.1f} ms; SCL on the grid {grid:.1f} ms = {100 * grid / whole:.0f} %; ", end=""
    )
    print(f"at full size {full:.1f} ms = {100 * full / whole:.0f} %")


if __name__ == "__main__":
    main()
