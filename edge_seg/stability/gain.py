"""What a method gains in stillness over the raw masks of the same clip, and what it pays."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_seg.stability.figures import Figures

# What is forgiven, per clip. Fractions of mIoU, steadily right pixels and boundary F; percent of
# ghosting; a ratio of MAE.
MIOU_LOSS, STEADY_LOSS, BOUNDARY_LOSS = 0.001, 0.001, 0.005
GHOST_GAIN, MAE_GAIN = 0.5, 1.02
LAG_MOST, LAG_FRAMES = 40.0, 0.5  # ms, frames: whichever is longer
ROUNDING = 1e-6  # of percent, and of ratios
LEAST_RAW = 1e-6  # percent, of raw masks' figures: less is nothing to divide by


@dataclass(frozen=True)
class Gain:
    """A method's masks against the raw ones of the same clip.

    dtssd, flicker, warped: ratios, below 1 is stiller; None where raw has nothing to divide by.
    miou: points. paid: what it cost, in words. `better` only where nothing was paid and something
    was gained.
    """

    dtssd: float | None
    flicker: float | None
    warped: float | None
    miou: float
    paid: tuple[str, ...]

    @property
    def better(self) -> bool:
        """Stiller by dtSSD and flicker, and no figure of accuracy or lag lost more than allowed."""
        ratios = [r for r in (self.dtssd, self.flicker) if r is not None]
        return not self.paid and bool(ratios) and max(ratios) < 1.0

    def __str__(self) -> str:
        """One line for people: the gain, or why there is none."""
        if self.paid:
            return f"not better: {'; '.join(self.paid)}"
        named = (("dtSSD", self.dtssd), ("flicker", self.flicker), ("warped", self.warped))
        shown = [f"{name} {ratio:.2f}x" for name, ratio in named if ratio is not None]
        return ", ".join(shown) or "nothing to gain: the raw masks change only as the truth does"


def gain_over_raw(found: Figures, raw: Figures) -> Gain:
    """Return what a method gains over the raw masks on one clip, and what it pays.

    Named as paid: mIoU more than 0.1 points down, boundary F more than 0.5 points, MAE more than
    2 % up, steadily right pixels more than 0.1 points down, ghosting more than 0.5 points up,
    drop-outs more, lag over 40 ms and half a frame, dtSSD above raw.
    """
    dtssd = _ratio(found.dtssd, raw.dtssd)
    return Gain(
        dtssd=dtssd,
        flicker=_ratio(found.flicker, raw.flicker),
        warped=_ratio(found.warped, raw.warped),
        miou=100 * (found.miou - raw.miou),
        paid=tuple(_paid(found, raw, dtssd)),
    )


def _paid(found: Figures, raw: Figures, dtssd: float | None) -> Iterator[str]:
    if found.miou < raw.miou - MIOU_LOSS:
        yield f"mIoU {100 * (found.miou - raw.miou):+.2f} points"
    if found.boundary_f < raw.boundary_f - BOUNDARY_LOSS:
        yield f"boundary F {100 * (found.boundary_f - raw.boundary_f):+.2f} points"
    if found.mae > raw.mae * MAE_GAIN + ROUNDING:
        yield f"MAE {found.mae - raw.mae:+.2f} points"
    if found.steady is not None and raw.steady is not None:
        if found.steady < raw.steady - STEADY_LOSS:
            yield f"steadily right {100 * (found.steady - raw.steady):+.2f} points"
    if found.ghosting is not None and raw.ghosting is not None:
        if found.ghosting > raw.ghosting + GHOST_GAIN:
            yield f"ghosting {found.ghosting - raw.ghosting:+.1f} points"
    if found.dropouts > raw.dropouts:
        yield f"{found.dropouts - raw.dropouts} more drop-outs"
    if found.lag is not None and found.frame_ms is not None:
        if found.lag > max(LAG_MOST, LAG_FRAMES * found.frame_ms):
            yield f"lag {found.lag:.0f} ms"
    if dtssd is not None and dtssd > 1.0 + ROUNDING:
        yield f"dtSSD {dtssd:.2f}x"
    if dtssd is None and found.dtssd is not None and found.dtssd > LEAST_RAW:
        yield f"dtSSD {found.dtssd:.2g} %, of raw none"


def _ratio(found: float | None, raw: float | None) -> float | None:
    return None if found is None or raw is None or raw < LEAST_RAW else found / raw
