"""What a network eats and returns: the contract that travels with it, so that nothing is guessed.

InputSpec    the picture: size, colour order, normalisation, how a frame is fitted into it
OutputSpec   the answer: logit or probability, and which channel is the person
TensorSpec   one end of an opened backend: shape, dtype, layout, quantisation

All are frozen, checked when made, and turn into plain dicts (`to_dict`) and back (`from_dict`).
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_seg.errors import BundleError
from edge_seg.ranges import within

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - exercised on Python 3.10
    import tomli as tomllib

COLORS = ("rgb", "bgr")
FITS = ("stretch", "letterbox")
ACTIVATIONS = ("logit", "probability")
LAYOUTS = ("nhwc", "nchw")
MAX_SIDE = 4096  # of a network's input: far above any network for small boards
MAX_NUMBER = 1e6  # of a mean or std: far above any, and safe to divide by
MAX_MEAN = 2.0  # in a spec file, of pixels of 0..1; what is far above was meant for 0..255
MAX_SPEC_BYTES = 64 * 1024


def take(data: dict[str, Any], key: str, kind: type | tuple[type, ...], where: str) -> Any:
    """Return `data[key]`, or raise BundleError naming `where`, the key, and what was found."""
    value = data.get(key)
    # bool is an int in Python; a manifest that says true where a number belongs is wrong.
    if isinstance(value, bool) and kind is not bool or not isinstance(value, kind):
        wanted = kind.__name__ if isinstance(kind, type) else "/".join(k.__name__ for k in kind)
        found = "nothing" if key not in data else f"{value!r:.60}"
        raise BundleError(f"{where}: wanted {key!r} as {wanted}, found {found}; correct that entry")
    return value


def take_choice(data: dict[str, Any], key: str, choices: tuple[str, ...], where: str) -> str:
    """Return `data[key]` if it is one of `choices`, else raise BundleError."""
    value = str(take(data, key, str, where))
    if value not in choices:
        raise BundleError(f"{where}: wanted {key!r} to be one of {choices}, found {value!r:.60}")
    return value


def _three(values: Any, name: str, where: str) -> tuple[float, float, float]:
    numbers = isinstance(values, Collection) and len(values) == 3
    if not numbers or not all(within(v, -MAX_NUMBER, MAX_NUMBER) for v in values):
        raise BundleError(f"{where}: wanted {name!r} as three finite numbers, found {values!r:.60}")
    first, second, third = (float(v) for v in values)
    return first, second, third


@dataclass(frozen=True)
class InputSpec:
    """The picture a network was trained on.

    height, width: pixels, 1..4096.
    mean, std: per channel in the network's colour order, on the 0..1 scale:
        tensor = (pixel / 255 - mean) / std.
    color: "rgb" or "bgr", the channel order of the tensor.
    fit: "stretch" (the frame is resized to the input, proportions lost) or "letterbox"
        (resized with its proportions, centred, the rest filled with `pad`).
    pad: pixel value 0..255 of a letterbox's bars.
    """

    height: int
    width: int
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    color: str = "rgb"
    fit: str = "letterbox"
    pad: int = 127

    def __post_init__(self) -> None:
        if not all(within(side, 1, MAX_SIDE, whole=True) for side in (self.height, self.width)):
            raise BundleError(
                f"input: wanted a size of 1..{MAX_SIDE} px a side, "
                f"found {self.height!r:.20}x{self.width!r:.20} (height x width)"
            )
        if self.color not in COLORS or self.fit not in FITS:
            raise BundleError(
                f"input: wanted color in {COLORS} and fit in {FITS}, "
                f"found {self.color!r} and {self.fit!r}"
            )
        _three(self.mean, "mean", "input")
        if not all(s > 0 for s in _three(self.std, "std", "input")):
            raise BundleError(f"input: wanted every std above 0, found {self.std}")
        if not within(self.pad, 0, 255):
            raise BundleError(f"input: wanted pad in 0..255, found {self.pad!r:.40}")

    def real(self, level: float) -> tuple[float, float, float]:
        """Return what a pixel of this level, 0..1, is in the tensor, per channel."""
        first, second, third = ((level - m) / s for m, s in zip(self.mean, self.std, strict=True))
        return first, second, third

    @property
    def squeezed(self) -> tuple[int, int] | None:
        """(height, width) that a camera may squeeze frames to; None where proportions are kept."""
        return (self.height, self.width) if self.fit == "stretch" else None

    def __str__(self) -> str:
        bars = f" with bars of {self.pad}" if self.fit == "letterbox" else ""
        return (
            f"{self.width}x{self.height} {self.color}, (pixel / 255 - {list(self.mean)}) / "
            f"{list(self.std)}, {self.fit}{bars}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON/TOML types."""
        return {
            "height": self.height,
            "width": self.width,
            "mean": list(self.mean),
            "std": list(self.std),
            "color": self.color,
            "fit": self.fit,
            "pad": self.pad,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "input") -> InputSpec:
        """Read what `to_dict` wrote; BundleError names `where` and the entry that is wrong."""
        return cls(
            height=take(data, "height", int, where),
            width=take(data, "width", int, where),
            mean=_three(take(data, "mean", list, where), "mean", where),
            std=_three(take(data, "std", list, where), "std", where),
            color=take_choice(data, "color", COLORS, where),
            fit=take_choice(data, "fit", FITS, where),
            pad=take(data, "pad", int, where) if "pad" in data else 127,
        )


@dataclass(frozen=True)
class OutputSpec:
    """The answer of a network.

    activation: "logit" (person where > 0) or "probability" (0..1, person where >= 0.5).
    channel: index of the person's channel in the network's output.
    """

    activation: str = "logit"
    channel: int = 0

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise BundleError(
                f"output: wanted activation in {ACTIVATIONS}, found {self.activation!r}"
            )
        if not within(self.channel, 0, 1023, whole=True):
            raise BundleError(f"output: wanted channel in 0..1023, found {self.channel!r:.40}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON/TOML types."""
        return {"activation": self.activation, "channel": self.channel}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str = "output") -> OutputSpec:
        """Read what `to_dict` wrote; BundleError names `where` and the entry that is wrong."""
        return cls(
            activation=take_choice(data, "activation", ACTIVATIONS, where),
            channel=take(data, "channel", int, where),
        )


@dataclass(frozen=True)
class TensorSpec:
    """One end of an opened backend.

    shape: 4 numbers, batch first (batch is 1). dtype: numpy name ("float32", "int8", "uint8").
    layout: "nhwc" or "nchw". scale, zero_point: real = scale * (code - zero_point) for integer
    dtypes; (0.0, 0) for float. pixels: an input that takes the picture's own bytes, uint8 "nhwc";
    the backend brings them to the InputSpec's scale.
    """

    shape: tuple[int, ...]
    dtype: str
    layout: str
    scale: float = 0.0
    zero_point: int = 0
    pixels: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != 4 or self.shape[0] != 1 or min(self.shape) < 1:
            raise BundleError(f"tensor: wanted a 4-d shape with batch 1, found {self.shape}")
        if self.layout not in LAYOUTS:
            raise BundleError(f"tensor: wanted layout in {LAYOUTS}, found {self.layout!r}")
        if self.dtype not in ("float32", "int8", "uint8"):
            raise BundleError(f"tensor: wanted float32, int8 or uint8, found {self.dtype!r}")
        if self.pixels and (self.dtype, self.layout) != ("uint8", "nhwc"):
            raise BundleError(
                f"tensor: wanted pixels as uint8 nhwc, found {self.dtype} {self.layout}"
            )
        if self.quantized and not self.scale > 0:
            raise BundleError(
                f"tensor: wanted a scale above 0 for {self.dtype}, found {self.scale}; "
                "the artifact carries no quantisation for this tensor: convert it again"
            )

    @property
    def quantized(self) -> bool:
        """True where codes are integers."""
        return self.dtype != "float32" and not self.pixels

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.shape[1:3] if self.layout == "nhwc" else self.shape[2:4]  # type: ignore[return-value]

    @property
    def channels(self) -> int:
        """Number of channels."""
        return self.shape[3] if self.layout == "nhwc" else self.shape[1]


def read_toml(path: Path, *, what: str, length: str, most: int) -> dict[str, Any]:
    """Read a TOML file that somebody wrote, of at most `most` bytes.

    what, length: what it should be and how long that is, for the sentences. Raises BundleError.
    """
    try:
        if path.stat().st_size > most:
            raise BundleError(f"{path}: wanted {what} of {length}, found a larger file")
        data = tomllib.loads(path.read_text(encoding="utf-8"))
        repr(data)  # as a message may: it fails for integers of thousands of digits, too
    except BundleError:
        raise
    except OSError as error:
        raise BundleError(
            f"{path}: wanted {what} in TOML, found: {error.strerror}; check the path"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path}: wanted {what} in TOML, found: {error}; correct it") from error
    return data


def load_spec(path: Path) -> tuple[InputSpec, OutputSpec]:
    """Read a `--spec` file: TOML with an [input] and an [output] table (fields as above).

    Raises BundleError naming the file and the entry that is wrong, unknown, or of another scale.
    """
    data = read_toml(path, what="a spec", length="a few lines", most=MAX_SPEC_BYTES)
    eats, returns = (take(data, end, dict, str(path)) for end in ("input", "output"))
    input = InputSpec.from_dict(eats, f"{path} [input]")
    output = OutputSpec.from_dict(returns, f"{path} [output]")
    refuse_unknown(eats, input.to_dict(), f"{path} [input]")
    refuse_unknown(returns, output.to_dict(), f"{path} [output]")
    if max(input.mean) > MAX_MEAN:
        raise BundleError(
            f"{path} [input]: wanted mean and std of pixels of 0..1, found a mean of "
            f"{max(input.mean):g}, as of pixels of 0..255; divide mean and std by 255"
        )
    return input, output


def refuse_unknown(data: dict[str, Any], known: Collection[str], where: str) -> None:
    """Raise BundleError for an entry that would be ignored: a misspelt `pad` is a pad of 127."""
    unknown = [key for key in data if key not in known]
    if unknown:
        raise BundleError(
            f"{where}: wanted entries of {', '.join(known)}, found {unknown[0]!r:.60}; correct or "
            "remove it"
        )
