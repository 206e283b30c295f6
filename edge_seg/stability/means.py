"""A running mean that knows when there was nothing to take one of."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Mean:
    """A mean over what there was; None where there was nothing."""

    total: float = 0.0
    count: float = 0.0

    def add(self, total: float, count: float = 1.0) -> None:
        """Count the sum of `count` values."""
        self.total += total
        self.count += count

    @property
    def value(self) -> float | None:
        """The mean so far."""
        return self.total / self.count if self.count else None
