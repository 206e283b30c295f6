"""The figures of a clip's masks, and whether their stillness says anything."""

from __future__ import annotations

from dataclasses import dataclass

from edge_seg.metrics import LEAST_ABOVE_CHANCE

# What `doubts` takes for no segmentation that moves: contrast (networks that work have 0.85 to
# 0.98, halved ones half of that), moves.
LEAST_CONTRAST, LEAST_MOVES = 0.6, 0.5


@dataclass(frozen=True)
class Figures:
    """The figures of one method on one clip; None where the clip has nothing to measure it on.

    Names and units are those of the table in `edge_seg.stability`, accuracy in fractions. chance:
    the mIoU of a mask that covers as much of the picture, anywhere; None where the truth has one
    class. frame_ms: the mean distance of two frames. n: frames.
    """

    miou: float
    boundary_f: float
    mae: float
    steady: float | None
    dtssd: float | None
    flicker: float | None
    warped: float | None
    flips: float | None
    ghosting: float | None
    dropouts: int
    lag: float | None
    delay: float | None
    contrast: float | None
    moves: float | None
    chance: float | None
    frame_ms: float | None
    n: int

    def to_dict(self) -> dict[str, float | int | None]:
        """Return the figures as JSON holds them."""
        return dict(vars(self))

    @property
    def doubts(self) -> tuple[str, ...]:
        """Why the stillness of these masks says nothing, in words; () where nothing speaks so.

        An empty mask and one of noise are no better than chance, a frozen one shows true changes
        never, and a pale one hides its differences. `delay` is no test of its own: a contour that
        creeps over a coarse mask shows late in every network's masks.
        """
        found = []
        if self.chance is not None and self.miou <= self.chance + LEAST_ABOVE_CHANCE:
            found.append(
                f"no better than chance (mIoU {100 * self.miou:.1f}, a mask that covers as much "
                f"anywhere {100 * self.chance:.1f})"
            )
        if self.contrast is not None and self.contrast < LEAST_CONTRAST:
            found.append(f"pale (person and background only {self.contrast:.2f} of 1 apart)")
        if self.moves is not None and self.moves < LEAST_MOVES:
            found.append(f"frozen (in {1 - self.moves:.0%} of the frames in which the truth moves)")
        return tuple(found)
