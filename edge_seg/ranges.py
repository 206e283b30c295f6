"""Whether what a caller passed is a number that makes sense: asked wherever settings come in."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np

from edge_seg.errors import SettingError


def within(value: object, least: float, most: float, *, whole: bool = False) -> bool:
    """Tell whether `value` is a number (whole: an integer) from `least` to `most`.

    NaN, True and text are no numbers here, nor are NumPy's spans of time, which Python counts as
    integers.

    >>> within(3, 1, 5), within(3.5, 1, 5, whole=True), within(True, 0, 1)
    (True, False, False)
    """
    if isinstance(value, (bool, np.timedelta64)) or not isinstance(value, Real):
        return False
    number: Any = value  # compared as it is: a whole number of 400 digits is no float
    return (not whole or isinstance(value, Integral)) and bool(least <= number <= most)


def check(
    setting: str, value: object, limits: tuple[float, float], *, unit: str, whole: bool = False
) -> None:
    """Raise SettingError unless `value` is a number within `limits`.

    setting, unit: the sentence's words for it. Seconds above the most may be milliseconds, and the
    sentence says so.
    """
    least, most = limits
    if within(value, least, most, whole=whole):
        return
    above = unit == "seconds" and within(value, most, math.inf)
    mend = "if it is in milliseconds, divide by 1000" if above else "correct it"
    raise SettingError(
        f"wanted {setting} as {unit} from {least} to {most}, found {value!r:.40}; {mend}"
    )
