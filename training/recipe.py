"""A training run's settings: one frozen dataclass, written as JSON beside the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

from edge_seg.errors import DatasetError

NAME = "recipe.json"  # in every run's folder, before its first step
# setting: (least, what it must stay below)
LIMITS = {
    "batch": (1, 1 << 20),
    "steps": (1, 1 << 40),
    "warmup": (0, math.inf),
    "decay_from": (0, math.inf),
    "save_every": (1, math.inf),
    "judge_every": (1, math.inf),
    "seed": (0, 1 << 63),
    "lr": (0.0, math.inf),
    "weight_decay": (0.0, math.inf),
    "ema": (0.0, 1.0),
    "overlap": (0.0, math.inf),
    "edge": (0.0, math.inf),
    "scl": (0.0, math.inf),
    "lovasz": (0.0, math.inf),
    "keep": (0.0, 1.0),
    "small": (0.0, 1.0 + 1e-9),
    "decoys": (0.0, 1.0 + 1e-9),
}


def is_run(source: Path) -> bool:
    """Tell a run's folder, or a checkpoint file of one, from other things to be converted."""
    return source.suffix == ".safetensors" or (source / NAME).is_file()


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run does, besides the pictures.

    sizes: (first step, input side in pixels) pairs; training starts small, where steps are cheap.
    batch: samples per step over all processes. steps: length of the run.
    lr: peak learning rate of AdamW, reached after `warmup` steps, held until `decay_from` and
        then lowered to zero along half a cosine at `steps`.
    ema: averaging of the weights, per step.
    keep: share of the weights it began from that is mixed into the averaged ones after the last
        step: what fine-tuning forgot of other pictures comes back (WiSE-FT, Wortsman et al., CVPR
        2022). 0 for a run from random weights; lost in a warm restart.
    bf16: convolutions in bfloat16 where the CPU or GPU computes in it: twice as fast there.
        Elsewhere it would take nine times as long, and float32 is used.
    unlabelled, composites, rooms, cards: shares of the samples; the rest are labelled photographs.
        A card is what a camera shows when it shows nothing (edge_seg.training.cards).
    small: share of the composites whose people are small, 0.2 to 0.6 of the frame's height, at any
        height in it, and lean.
    decoys: share of the composites in which things stand behind the people that have a person's
        outline or a post's, and are none.
    overlap, edge, scl, lovasz: weights of the soft-IoU term, of pixels on contours, of SCL, and of
        the Lovasz hinge.
    """

    shape: str = "base"
    sizes: tuple[tuple[int, int], ...] = ((0, 128), (4000, 224))
    batch: int = 64
    steps: int = 16000
    lr: float = 2e-3
    warmup: int = 300
    decay_from: int = 8000
    weight_decay: float = 0.02
    ema: float = 0.998
    keep: float = 0.0
    overlap: float = 0.5
    edge: float = 2.0
    scl: float = 0.0
    lovasz: float = 0.0
    unlabelled: float = 0.22
    composites: float = 0.22
    rooms: float = 0.05
    cards: float = 0.0
    small: float = 0.0
    decoys: float = 0.0
    bf16: bool = True
    seed: int = 0
    save_every: int = 250
    judge_every: int = 1000

    def size_at(self, step: int) -> int:
        """The input side at a step."""
        return [side for first, side in self.sizes if first <= step][-1]

    @property
    def final_size(self) -> int:
        """The input side the network is meant to run at."""
        return self.sizes[-1][1]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"sizes": [list(pair) for pair in self.sizes]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Read what `to_dict` wrote. Raises DatasetError on a setting it does not know."""
        known = {field.name: type(field.default) for field in fields(cls)}
        for name, value in data.items():
            if name not in known:
                raise DatasetError(
                    f"wanted settings among {', '.join(known)}, found {name!r}; correct its name"
                )
            kind = known[name]
            whole = kind is float and isinstance(value, int) and not isinstance(value, bool)
            if not (whole or type(value) is (list if kind is tuple else kind)):
                raise DatasetError(
                    f"wanted setting {name} as {kind.__name__}, found {value!r:.60}; correct it"
                )
        values = dict(data)
        if "sizes" in values:
            values["sizes"] = _sizes(values["sizes"])
        recipe = cls(**values)
        recipe._check()
        return recipe

    def _check(self) -> None:
        """Raise DatasetError for a setting that no run could keep."""
        for name, (least, end) in LIMITS.items():
            value = getattr(self, name)
            if not least <= value < end:  # NaN is neither
                raise DatasetError(
                    f"wanted setting {name} from {least} to below {end}, found {value}; correct it"
                )
        shares = (self.unlabelled, self.composites, self.rooms, self.cards)
        if not (min(shares) >= 0 and sum(shares) <= 1 + 1e-9):
            raise DatasetError(
                "wanted unlabelled, composites, rooms and cards as shares of 1, found "
                f"{shares}; correct them"
            )
        if self.sizes[-1][0] >= self.steps:
            raise DatasetError(
                f"wanted the last of sizes {self.sizes} to begin before the last step, found "
                f"{self.steps} steps; lengthen the run or begin that size earlier"
            )

    def scaled(self, steps: int) -> Recipe:
        """The same schedule over another number of steps."""
        ratio = steps / self.steps
        sizes = {int(first * ratio): side for first, side in self.sizes}  # the later of two wins
        return replace(
            self,
            steps=steps,
            sizes=tuple(sizes.items()),
            warmup=min(self.warmup, int(self.warmup * ratio)),
            decay_from=int(self.decay_from * ratio),
        )


def _sizes(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = [tuple(pair) for pair in value if isinstance(pair, (list, tuple))]
    good = all(len(p) == 2 and all(type(n) is int for n in p) for p in pairs)
    if not pairs or len(pairs) != len(value) or not good or pairs[0][0] != 0:
        raise DatasetError(
            f"wanted sizes as [[0, 128], [4000, 224]] (first step, side), found {value!r:.80}; "
            f"correct it"
        )
    firsts = [first for first, _ in pairs]
    if firsts != sorted(set(firsts)):
        raise DatasetError(
            f"wanted sizes in the order of their first steps, found {value!r:.80}; sort them"
        )
    if any(side % 32 or side < 32 for _, side in pairs):
        raise DatasetError(
            f"wanted every side a multiple of 32, found {value!r:.80}; change the sizes"
        )
    return tuple((int(first), int(side)) for first, side in pairs)
