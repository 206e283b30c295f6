"""A TFLite file's form, read with bounds before the library opens it.

LiteRT checks a file's offsets and then trusts what they lead to. Files it takes and that end the
process, found by changing bytes of whole ones (docs/decisions.md, "Hostile files"): no subgraph,
weights left out of an operator, int8 without a scale, scales that are no numbers, unpacked weights
of another shape than the packed ones. They are refused here in words, with loops, weights in other
files, and tensors no small board could hold.

Layout: FlatBuffers' "internals" page. Fields: tensorflow/lite/schema/schema.fbs, numbered there.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from edge_seg.errors import BackendUnavailable

MAGIC = b"TFL3"  # flatbuffer file identifier, bytes 4..8
MAX_TENSOR = 1 << 28  # bytes: above the largest input a spec allows (4096 x 4096 x 3 in float)
MAX_NUMBERS = 1_000_000  # in all lists together: far above any network's, read in half a second
MAX_RANK = 8
SCALES = (1e-30, 1e9)  # far outside any network's
# schema.fbs, TensorType -> bytes; others are rare and at most 8.
ITEM_BYTES = {0: 4, 1: 2, 2: 4, 3: 1, 6: 1, 7: 2, 9: 1, 15: 4, 16: 2, 17: 1}
FLOAT, EIGHT_BITS = 0, (3, 9)  # TensorType: FLOAT32; UINT8, INT8
# schema.fbs, BuiltinOperator.
DEQUANTIZE, QUANTIZE = 6, 114
SUMS = (0, 41)  # ADD, SUB: the library aborts where 2 * input scale >= 2^20 * output scale
MAX_RATIO = 2.0**18


class Damaged(Exception):
    """What is wrong, as "wanted ..., found ...". Never leaves this module."""


def check_file(path: Path) -> None:
    """Raise BackendUnavailable, naming the path, unless the file is one network of sound form.

    Nothing of the weights is read. Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        if file.read(8)[4:] != MAGIC:
            raise BackendUnavailable(f"{path}: wanted a TFLite file, found other bytes")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                root = Table(content, _number(content, 0, "I"), Lists(len(content)))
                _check_model(root)
            except Damaged as what:
                raise BackendUnavailable(
                    f"{path}: {what}; the artifact is damaged: convert the model again"
                ) from None


def _number(content: mmap.mmap, at: int, code: str) -> int:
    if not 0 <= at <= len(content) - struct.calcsize(code):
        raise Damaged(f"wanted a TFLite file, found one that points to byte {at} of {len(content)}")
    value: int = struct.unpack_from(f"<{code}", content, at)[0]
    return value


class Lists:
    """Counts the numbers read from lists: many may point at one, and each pointer costs its time.

    size: the file's, in bytes. A number takes four or more, so that a file whose lists are each
    read once holds no more than a quarter of that.
    """

    def __init__(self, size: int) -> None:
        self.limit = self._left = min(MAX_NUMBERS, size // 4)

    def count(self, numbers: int) -> None:
        """Raise Damaged where these are too many, before they are read."""
        self._left -= numbers
        if self._left < 0:
            raise Damaged(f"wanted up to {self.limit} numbers in all lists together, found more")


@dataclass(frozen=True)
class Table:
    """A flatbuffer's table. at: its place in the file. Fields by number; absent ones are empty."""

    content: mmap.mmap
    at: int
    lists: Lists

    def _place(self, field: int) -> int:
        """Return where a field lies; 0 where it is absent."""
        vtable = self.at - _number(self.content, self.at, "i")
        slot = 4 + 2 * field
        if slot + 2 > _number(self.content, vtable, "H"):
            return 0
        offset = _number(self.content, vtable + slot, "H")
        return self.at + offset if offset else 0

    def number(self, field: int, code: str) -> int:
        """Return a number (0, the schema's default, where it is absent)."""
        place = self._place(field)
        return _number(self.content, place, code) if place else 0

    def _target(self, field: int) -> int:
        place = self._place(field)
        return place + _number(self.content, place, "I") if place else 0

    def table(self, field: int) -> Table | None:
        """Return an inner table, None where it is absent."""
        target = self._target(field)
        return Table(self.content, target, self.lists) if target else None

    def numbers(self, field: int, code: str) -> tuple[float, ...]:
        """Return a vector of numbers, empty where it is absent."""
        start = self._target(field)
        count = _number(self.content, start, "I") if start else 0
        self.lists.count(count)
        if count:
            _number(self.content, start + 4 + (count - 1) * struct.calcsize(code), code)  # its end
        return struct.unpack_from(f"<{count}{code}", self.content, start + 4) if count else ()

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables, empty where it is absent."""
        start = self._target(field) + 4
        offsets = self.numbers(field, "I")
        return [
            Table(self.content, start + 4 * i + int(o), self.lists) for i, o in enumerate(offsets)
        ]


@dataclass(frozen=True)
class Tensor:
    """What is looked at of a tensor. kind: schema.fbs, TensorType.

    scales: the smallest and the largest; None without any.
    """

    shape: tuple[int, ...]
    kind: int
    scales: tuple[float, float] | None


def _check_model(model: Table) -> None:
    codes, graphs, buffers = model.tables(1), model.tables(2), model.tables(4)
    if len(graphs) != 1:
        raise Damaged(f"wanted one graph, found {len(graphs)}")
    if model.tables(8) or model.tables(9):
        raise Damaged("wanted all weights inside the file, found them in another file")
    graph = graphs[0]
    tensors = [_tensor(t, len(buffers)) for t in graph.tables(0)]
    for ends in (graph.numbers(1, "i"), graph.numbers(2, "i")):
        _check_indices(ends, len(tensors))
    kinds = [max(c.number(0, "b"), c.number(3, "i")) for c in codes]
    for operator in graph.tables(3):
        _check_operator(operator, kinds, tensors)


def _tensor(table: Table, buffers: int) -> Tensor:
    shape = tuple(int(n) for n in table.numbers(0, "i"))
    kind = table.number(1, "b")
    size = ITEM_BYTES.get(kind, 8) * math.prod(max(1, n) for n in shape[: MAX_RANK + 1])
    if len(shape) > MAX_RANK or min(shape, default=0) < 0 or size > MAX_TENSOR:
        raise Damaged(f"wanted tensors of up to {MAX_TENSOR >> 20} MB, found {shape!s:.80}")
    if table.number(2, "I") >= buffers:
        raise Damaged(f"wanted a tensor's buffer among {buffers}, found {table.number(2, 'I')}")
    if table.table(6) is not None:
        raise Damaged("wanted dense weights, found sparse ones")
    return Tensor(shape, kind, _scales(table.table(4), kind))


def _scales(quantization: Table | None, kind: int) -> tuple[float, float] | None:
    scales = quantization.numbers(2, "f") if quantization else ()
    zeros = quantization.numbers(3, "q") if quantization else ()
    if kind in EIGHT_BITS and not scales:
        raise Damaged("wanted a scale with every 8-bit tensor, found one without")
    if len(zeros) != len(scales):
        raise Damaged(f"wanted a zero point per scale, found {len(zeros)} for {len(scales)}")
    wrong = [s for s in scales if not SCALES[0] <= s <= SCALES[1]]  # and those that are NaN
    if wrong:
        raise Damaged(f"wanted scales of {SCALES[0]:g}..{SCALES[1]:g}, found {wrong[0]:g}")
    return (min(scales), max(scales)) if scales else None


def _check_operator(operator: Table, kinds: list[int], tensors: list[Tensor]) -> None:
    code = operator.number(0, "I")
    if code >= len(kinds):
        raise Damaged(f"wanted an operator among {len(kinds)} kinds, found number {code}")
    ins, outs = operator.numbers(1, "i"), operator.numbers(2, "i")
    if ins and ins[-1] == -1:  # the bias, which may be absent
        ins = ins[:-1]
    _check_indices(ins, len(tensors))
    _check_indices(outs, len(tensors))
    _check_kinds(kinds[code], [tensors[int(i)] for i in ins], [tensors[int(i)] for i in outs])


def _check_kinds(code: int, ins: list[Tensor], outs: list[Tensor]) -> None:
    """Refuse shapes, types and scales that do not go together."""
    if code in (DEQUANTIZE, QUANTIZE) and [t.shape for t in ins] != [t.shape for t in outs]:
        raise Damaged(f"wanted a tensor converted in its own shape, found {outs[0].shape!s:.80}")
    integer = ins[0].kind in EIGHT_BITS if ins else False
    if integer and code != DEQUANTIZE and any(t.kind == FLOAT for t in outs):
        raise Damaged("wanted 8-bit results of an 8-bit operator, found float")
    if integer and code in SUMS:
        most = max((t.scales[1] for t in ins if t.scales), default=0.0)
        if any(most > MAX_RATIO * t.scales[0] for t in outs if t.scales):
            raise Damaged("wanted a sum's scale near those of its terms, found one far below")


def _check_indices(indices: tuple[float, ...], count: int) -> None:
    wrong = [i for i in indices if not 0 <= i < count]
    if wrong or not indices:
        raise Damaged(f"wanted tensors 0..{count - 1}, found {wrong[:1] or 'none'}")
