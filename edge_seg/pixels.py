"""From camera pixels to a network's tensor and back, the same code for calibrator and runtime.

    frame    uint8 (H, W, 3) "bgr" or "rgb", (3H/2, W) "nv12" or "yuv420"   camera pixels
    picture  uint8 (h, w, 3), the network's size and colour     prepare(frame)
    tensor   what a backend eats and returns                    Codec.encode(picture)
    mask     float32 0..1 or uint8 0..255, probability          Codec.decode(tensor), restore()

Pixels are 8 bit, so a normalisation followed by any quantisation is a table of 256 entries per
channel, and an 8-bit output is a table too: the integer path never makes a float picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_seg import yuv
from edge_seg.arrays import Picture
from edge_seg.errors import BundleError, FrameError
from edge_seg.formats import frame_size
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec

Mask = NDArray[np.float32] | NDArray[np.uint8]

HIGHEST_BIT = np.uint8(0x80)
FLIPPED = np.arange(256, dtype=np.uint8)[:, None] ^ HIGHEST_BIT
RANGES = {"int8": (-128, 127), "uint8": (0, 255)}


@dataclass(frozen=True)
class Placement:
    """Where a frame lies in the network's picture: the inner rectangle, in picture pixels."""

    top: int
    left: int
    height: int
    width: int


def place(height: int, width: int, spec: InputSpec) -> Placement:
    """Return where a frame of (height, width) lies in the network's picture.

    "letterbox" keeps proportions and centres; whole pixels, at least one a side.
    """
    if spec.fit == "stretch":
        return Placement(0, 0, spec.height, spec.width)
    scale = min(spec.height / height, spec.width / width)
    inner_h = min(spec.height, max(1, round(height * scale)))
    inner_w = min(spec.width, max(1, round(width * scale)))
    return Placement((spec.height - inner_h) // 2, (spec.width - inner_w) // 2, inner_h, inner_w)


def prepare(frame: Picture, spec: InputSpec, *, format: str = "bgr") -> tuple[Picture, Placement]:
    """Fit a frame into the network's picture: resize, colour order, bars.

    frame: uint8, (H, W, 3) "bgr" | "rgb" or (3H/2, W) "nv12" | "yuv420". Returns uint8 (h, w, 3)
    in the network's colour order, and where the frame lies in it. Raises FrameError.

    Planes are shrunk before they become colours, which no full-size picture is made for: 0.6x the
    time of converting first (benchmarks/camera_formats.py). Where colours leave the range, and are
    cut to it, the order of the two shows: by a few levels at most in photographs.
    """
    height, width = frame_size(frame, format)
    placement = place(height, width, spec)
    size = (placement.height, placement.width)
    if format in yuv.PLANAR:
        small = [shrink(plane, size) for plane in yuv.planes(frame, format)]
        inner = yuv.to_color(small, spec.color)
    else:
        inner = shrink(frame, size)
        if format != spec.color:
            inner = cv2.cvtColor(inner, cv2.COLOR_BGR2RGB)  # swaps either way
    if inner.shape[:2] == (spec.height, spec.width):
        return (inner if inner is not frame else frame.copy()), placement
    picture = np.full((spec.height, spec.width, 3), spec.pad, dtype=np.uint8)
    top, left = placement.top, placement.left
    picture[top : top + placement.height, left : left + placement.width] = inner
    return picture, placement


def shrink(frame: Picture, size: tuple[int, int]) -> Picture:
    """Resize a frame to (height, width) without aliasing; `frame` itself if it has that size.

    Each side is halved by averaging while it is at least twice as large, then bilinear: every
    source pixel counts, so 720p detail does not fold into the small picture. From 720p it takes a
    third of the time of area averaging in one step (benchmarks/resizing.py has the quality).
    The same bits on every processor: OpenCV's plain bilinear rounds otherwise on ARM, by one level
    in a fifth of the values, which moved 0.4 % of an int8 mask's decisions. Where an odd side is
    halved, by one level in up to 0.2 % of the values: its average has weights that are no halves.
    """
    height, width = size
    while frame.shape[0] >= 2 * height or frame.shape[1] >= 2 * width:
        half_h = frame.shape[0] // 2 if frame.shape[0] >= 2 * height else frame.shape[0]
        half_w = frame.shape[1] // 2 if frame.shape[1] >= 2 * width else frame.shape[1]
        # Of one even side alone, bilinear is the same average: its samples lie midway between two
        # pixels. OpenCV's area averaging takes seven times as long there. Of an odd side they
        # drift onto single pixels, and those between count for nothing.
        both = half_h < frame.shape[0] and half_w < frame.shape[1]
        odd = frame.shape[0 if half_h < frame.shape[0] else 1] % 2 == 1
        method = cv2.INTER_AREA if both or odd else cv2.INTER_LINEAR
        frame = cv2.resize(frame, (half_w, half_h), interpolation=method)
    if frame.shape[:2] == size:
        return frame
    return cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)


def input_table(spec: InputSpec, tensor: TensorSpec) -> NDArray[np.generic]:
    """Return the (256, 3) table that takes a pixel value to the tensor's code, per channel.

    float: (v / 255 - mean) / std. Integer: that, / scale + zero_point, rounded half up in double
    precision and saturated. Half up because with scale 1/127.5 every value is a tie, and rounding
    ties to even would merge neighbouring levels.
    """
    levels = np.arange(256, dtype=np.float64)[:, None] / 255.0
    real = (levels - np.array(spec.mean)) / np.array(spec.std)
    if not tensor.quantized:
        return real.astype(np.float32)
    low, high = RANGES[tensor.dtype]
    # A hair below the tie counts as the tie: scale is stored as float32, so 0.5 arrives as
    # 0.49999997 or 0.50000003 by chance.
    codes = np.floor(real / tensor.scale + tensor.zero_point + 0.5 + 1e-4)
    return np.clip(codes, low, high).astype(tensor.dtype)


def sigmoid(x: NDArray[np.floating]) -> NDArray[np.floating]:
    """1 / (1 + exp(-x)), without overflow."""
    return 1.0 / (1.0 + cv2.exp(-x))  # a quarter of the time of NumPy's tanh


def output_table(spec: OutputSpec, tensor: TensorSpec) -> NDArray[np.float32]:
    """Return the (256,) table that takes an output byte, read as uint8, to a probability 0..1.

    Dequantisation scale * (code - zero_point), then sigmoid where the network returns logits.
    """
    raw = np.arange(256, dtype=np.uint8)
    codes = raw.view(np.int8) if tensor.dtype == "int8" else raw
    real = tensor.scale * (codes.astype(np.float64) - tensor.zero_point)
    probability = sigmoid(real) if spec.activation == "logit" else np.clip(real, 0.0, 1.0)
    return probability.astype(np.float32)


class Codec:
    """Both ends of one opened backend, as tables built once.

    input: the bundle's InputSpec; output: its OutputSpec; eats, returns: the backend's TensorSpecs.
    Raises BundleError where the backend's shapes are not the bundle's.
    """

    def __init__(
        self, input: InputSpec, output: OutputSpec, *, eats: TensorSpec, returns: TensorSpec
    ) -> None:
        if eats.size != (input.height, input.width) or eats.channels != 3:
            raise BundleError(
                f"wanted an input of {input.height}x{input.width}x3, found an artifact that eats "
                f"{eats.shape} ({eats.layout}); convert the model again"
            )
        if output.channel >= returns.channels:
            raise BundleError(
                f"wanted the person in channel {output.channel}, found an artifact that returns "
                f"{returns.shape} ({returns.layout}); correct the spec"
            )
        self._shape = (input.height, input.width, 3)
        self._eats, self._returns, self._output = eats, returns, output
        if not eats.pixels:
            self._learn_input(input, eats)
        if returns.quantized:
            self._out = output_table(output, returns)
            self._out8 = np.floor(self._out * 255.0 + 0.5).astype(np.uint8)

    def _learn_input(self, input: InputSpec, eats: TensorSpec) -> None:
        table = input_table(input, eats)
        # One table for all channels where they are the same: half of LUT's time.
        self._same = bool((table == table[:, :1]).all())
        self._in = np.ascontiguousarray(table[None, :, 0] if self._same else table[None])
        self._by_channel = [np.ascontiguousarray(table[None, :, c]) for c in range(3)]
        # The commonest table, scale 1/127.5 and zero point -1, only flips the highest bit of each
        # pixel: the same codes in a thirtieth of the time.
        self._flips = eats.dtype == "int8" and bool((table.view(np.uint8) == FLIPPED).all())

    def encode(self, picture: Picture) -> NDArray[np.generic]:
        """Return the backend's tensor (1, h, w, 3) or (1, 3, h, w) for a picture (h, w, 3)."""
        if picture.shape != self._shape:
            raise FrameError(f"wanted a picture of {self._shape}, found {picture.shape}")
        if self._eats.pixels:
            return picture[None]
        if self._eats.layout == "nchw":
            return self._planes(picture)[None]
        if self._flips:
            return np.bitwise_xor(picture, HIGHEST_BIT).view(np.int8)[None]
        return cv2.LUT(picture, self._in)[None]

    def _planes(self, picture: Picture) -> NDArray[np.generic]:
        # Bytes are taken apart sooner than the floats made of them: a third of the time.
        planes = cv2.split(picture)
        if self._same:
            return cv2.LUT(np.vstack(planes), self._in).reshape(3, *picture.shape[:2])
        return np.stack([cv2.LUT(*pair) for pair in zip(planes, self._by_channel, strict=True)])

    def decode(self, tensor: NDArray[np.generic], dtype: str = "float32") -> Mask:
        """Return the mask (h, w) at the network's output size, float32 0..1 or uint8 0..255."""
        channel = self._output.channel
        plane = tensor[0, :, :, channel] if self._returns.layout == "nhwc" else tensor[0, channel]
        plane = np.ascontiguousarray(plane)
        if self._returns.quantized:
            table = self._out8 if dtype == "uint8" else self._out
            return cv2.LUT(plane.view(np.uint8), table)
        real = plane.astype(np.float32, copy=False)
        mask = sigmoid(real) if self._output.activation == "logit" else np.clip(real, 0, 1)
        return np.floor(mask * 255 + 0.5).astype(np.uint8) if dtype == "uint8" else mask


def restore(
    mask: Mask,
    placement: Placement,
    spec: InputSpec,
    *,
    size: tuple[int, int],
    out: Mask | None = None,
) -> Mask:
    """Cut the bars off a mask of the network's output size and bring it to `size`.

    mask: (h, w) float32 or uint8; its size may be a fraction of the picture's (a decoder at 1/4).
    size: (height, width) of the result. out: a buffer of that size and the mask's dtype.
    Enlarged bilinearly; a side that shrinks is averaged, so every mask pixel counts. Where the
    mask is smaller than the picture the cut may fall inside a mask pixel; then only pixels wholly
    inside the frame are read, the last ones repeated up to the frame's edge: a bar never shows in
    the mask.
    """
    height, width = size
    if out is not None:
        check_out(out, mask.dtype, size)
    # Multiplied before they are divided: whole mask pixels come out whole.
    top, inner_h = (n * mask.shape[0] / spec.height for n in (placement.top, placement.height))
    left, inner_w = (n * mask.shape[1] / spec.width for n in (placement.left, placement.width))
    if all(float(v).is_integer() for v in (top, left, inner_h, inner_w)):
        cut = mask[int(top) : int(top + inner_h), int(left) : int(left + inner_w)]
        cut = _averaged(cut, size)
        return cv2.resize(cut, (width, height), dst=out, interpolation=cv2.INTER_LINEAR)
    rows, columns = _whole(top, inner_h), _whole(left, inner_w)
    # A side that shrinks is sampled at least once per mask pixel, then averaged.
    times_y = max(1, math.ceil(inner_h / height - 1e-9))
    times_x = max(1, math.ceil(inner_w / width - 1e-9))
    # Half-pixel centres: mask x = (x + 0.5) * inner_w / width + left - 0.5.
    scale_x, scale_y = inner_w / (times_x * width), inner_h / (times_y * height)
    shift_x = left - columns.start - 0.5 + 0.5 * scale_x
    shift_y = top - rows.start - 0.5 + 0.5 * scale_y
    shrinks = times_y > 1 or times_x > 1
    full = cv2.warpAffine(
        mask[rows, columns],
        np.array([[scale_x, 0.0, shift_x], [0.0, scale_y, shift_y]]),
        (times_x * width, times_y * height),
        dst=None if shrinks else out,
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    if not shrinks:
        return full
    return _at_most_one(cv2.resize(full, (width, height), dst=out, interpolation=cv2.INTER_AREA))


def _averaged(mask: Mask, size: tuple[int, int]) -> Mask:
    """Reduce a mask to at most (height, width) by averaging; a side that is not larger stays."""
    height, width = min(mask.shape[0], size[0]), min(mask.shape[1], size[1])
    if mask.shape == (height, width):
        return mask
    return _at_most_one(cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA))


def _at_most_one(mask: Mask) -> Mask:
    """An average's weights add up to a hair more than one, in floats."""
    return mask if mask.dtype == np.uint8 else np.minimum(mask, 1.0, out=mask)


def _whole(start: float, length: float) -> slice:
    """The mask pixels that lie wholly in [start, start + length), at least one."""
    first, end = math.ceil(start), math.floor(start + length)
    return slice(first, end) if first < end else slice(math.floor(start), math.floor(start) + 1)


def check_out(out: object, dtype: np.dtype[np.generic], size: tuple[int, int]) -> None:
    """Raise FrameError where `out` is no buffer for a mask of that dtype and (height, width)."""
    wanted = f"wanted out= as a contiguous array of {dtype} {size}"
    if not isinstance(out, np.ndarray):
        raise FrameError(f"{wanted}, found {type(out).__name__}; pass np.empty({size}, '{dtype}')")
    if out.shape != size or out.dtype != dtype:
        raise FrameError(f"{wanted}, found {out.dtype} {out.shape}; pass a buffer of that form")
    if not (out.flags.c_contiguous and out.flags.writeable):
        raise FrameError(f"{wanted}, found a view or a read-only array; pass a buffer of its own")
