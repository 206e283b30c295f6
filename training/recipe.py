"""A training run's settings: one frozen dataclass, written as JSON beside the run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from edge_seg.errors import DatasetError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a run does, besides the pictures.

    sizes: (first step, input side in pixels) pairs; training starts small, where steps are cheap.
    batch: samples per step over all processes. steps: length of the run.
    lr: peak learning rate of AdamW, reached after `warmup` steps, held until `decay_from` and
        then lowered to zero along half a cosine at `steps`.
    ema: averaging of the weights, per step.
    bf16: convolutions in bfloat16: twice as fast where the CPU or GPU has it, slower where not.
    overlap, edge, scl: weights of the soft-IoU term, of pixels on contours, and of SCL.
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
    overlap: float = 0.5
    edge: float = 2.0
    scl: float = 0.0
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
        return cls(**values)


def _sizes(value: Any) -> tuple[tuple[int, int], ...]:
    pairs = [tuple(pair) for pair in value if isinstance(pair, (list, tuple))]
    good = all(len(p) == 2 and all(type(n) is int for n in p) for p in pairs)
    if not pairs or len(pairs) != len(value) or not good or pairs[0][0] != 0:
        raise DatasetError(
            f"wanted sizes as [[0, 128], [4000, 224]] (first step, side), found {value!r:.80}; "
            f"correct it"
        )
    if any(side % 32 or side < 32 for _, side in pairs):
        raise DatasetError(
            f"wanted every side a multiple of 32, found {value!r:.80}; change the sizes"
        )
    return tuple((int(first), int(side)) for first, side in pairs)
