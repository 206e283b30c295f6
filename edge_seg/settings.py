"""What the segmenter's arguments may be; anything else is a SettingError that says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from edge_seg.backends import MAX_THREADS
from edge_seg.errors import SettingError
from edge_seg.ranges import within
from edge_seg.supervision import Policy

DTYPES = ("float32", "uint8")  # of masks


def dtype_name(dtype: DTypeLike) -> str:
    """Return "float32" or "uint8" for what means one of them. Raises SettingError."""
    try:
        name = "" if dtype is None else np.dtype(dtype).name  # None would be NumPy's float64
    except TypeError:
        name = ""
    if name not in DTYPES:
        raise SettingError(
            f"wanted dtype= as {' or '.join(DTYPES)}, found {dtype!r:.60}; for a mask of bools "
            "compare one of these: mask >= 0.5, or > 127"
        )
    return name


def checked_edges(edges: object) -> bool:
    """Return True or False as a bool. Raises SettingError for anything else."""
    if not isinstance(edges, (bool, np.bool_)):
        raise SettingError(
            f"wanted edges as True or False, found {edges!r:.60}; False enlarges masks as they are"
        )
    return bool(edges)


def checked_threads(threads: object) -> int | None:
    """Return a number of threads, None for the board's own. Raises SettingError."""
    if threads is None:
        return None
    if not within(threads, 1, MAX_THREADS, whole=True):
        raise SettingError(
            f"wanted threads as a whole number of 1 to {MAX_THREADS}, found {threads!r:.60}; None "
            "leaves the number to the board"
        )
    return int(threads)  # type: ignore[call-overload]


def check_policy(policy: object) -> None:
    """Raise SettingError for anything but None or a Policy."""
    if policy is not None and not isinstance(policy, Policy):
        raise SettingError(
            f"wanted policy= as a Policy or None, found {policy!r:.60}; "
            "edge_seg.supervision.Policy(deadline=0.2) gives a call up after 0.2 s"
        )


def check_cadence(cadence: object) -> None:
    """Raise SettingError for anything but None, a Cadence or a Budget."""
    if cadence is None:
        return
    from edge_seg.cadence import Cadence

    if not isinstance(cadence, Cadence):
        raise SettingError(
            f"wanted cadence as None or a Cadence or Budget of edge_seg.cadence, found "
            f"{cadence!r:.60}; Cadence(2) runs the network on every second frame"
        )
