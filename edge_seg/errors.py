"""Every error edge-seg raises on purpose, but for TrainingStopped, which is in training/fit.py.

    EdgeSegError
    ├── BundleError(ValueError)            a bundle or a spec that cannot be trusted or read
    ├── FrameError(ValueError)             a frame, mask or time of the wrong form
    ├── SettingError(ValueError)           an argument that is not among what may be chosen
    ├── DatasetError(ValueError)           pictures, labels or a training's settings that are no use
    ├── UnknownBoard(LookupError)          a board name nobody knows
    ├── BackendUnavailable(RuntimeError)   a backend that cannot run here, with the reason
    ├── BackendFailure(RuntimeError)       a backend that ran and failed
    │   └── MaskLate                       no mask for this frame in time; the next may have one
    ├── CameraError(OSError)               a source of frames that cannot be opened or read
    │   └── CameraLost                     a camera that worked and stopped
    ├── OutputError(OSError)               a file that could not be written whole
    └── ConversionError(RuntimeError)      a model that cannot be converted
        └── QualityRefused                 converted, measured, and not good enough

A message has three parts: what was wanted, what was found, what to do.
"""

from __future__ import annotations


class EdgeSegError(Exception):
    """Base of all errors of this package; `except EdgeSegError` catches them all."""


class BundleError(EdgeSegError, ValueError):
    """A bundle, manifest or spec that is missing, damaged, edited or from a newer version."""


class FrameError(EdgeSegError, ValueError):
    """A frame, mask or timestamp that is not what was promised: shape, dtype, size or values."""


class SettingError(EdgeSegError, ValueError):
    """An argument other than a frame that cannot be chosen: a format, a number of threads, a
    policy, a half-life, a budget, a colour. It will be no better with the next frame.
    """


class DatasetError(EdgeSegError, ValueError):
    """A list file, picture, label, recipe or run that cannot be used; names the file, and in a list
    the line.
    """


class UnknownBoard(EdgeSegError, LookupError):
    """A board name that no board file answers to."""


class BackendUnavailable(EdgeSegError, RuntimeError):
    """A backend that cannot run here. The message is one sentence fit for a list of refusals."""


class BackendFailure(EdgeSegError, RuntimeError):
    """A backend that opened and then failed, or was used after `close`."""


class MaskLate(BackendFailure):
    """No answer within the deadline, or the next runtime still opens: skip the frame, go on."""


class CameraError(EdgeSegError, OSError):
    """A source of frames that cannot be opened, or none of whose pictures can be read."""


class CameraLost(CameraError):
    """A camera that gave frames and stopped: not the user's mistake, and not to be repeated."""


class OutputError(EdgeSegError, OSError):
    """A file that could not be written; nothing half-written is left under its name."""


class ConversionError(EdgeSegError, RuntimeError):
    """A model that cannot be converted, and why."""


class QualityRefused(ConversionError):
    """A conversion that ran and lost too much; the message holds the figures."""
