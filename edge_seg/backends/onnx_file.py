"""An ONNX file's form, read with bounds before ONNX Runtime opens it.

Refused in words: weights in other files, which no manifest names and no hash covers; constants of
more numbers than the file holds; functions and graphs inside the graph, which `convert` never
writes and which may run for ever; results of a giant size that a constant asks for.

Of sizes only this is seen: those that an initializer, a Constant or an attribute gives to the
operators of `SIZES`, to Range and to pads. Not seen are sizes that other operators compute
(Identity, Cast, Concat), and what broadcasting, MatMul, strides or a chain of small growths make.
Those are bounded when they run, by the backend's limit on memory.

Weights are stepped over, not read. Layout: protobuf.dev, "Encoding". Fields: onnx/onnx.proto,
numbered there.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

from edge_seg.errors import BackendUnavailable

MAX_FIELDS = 200_000  # of all messages together: far above any network's, half a second
MAX_NAME = 4096  # bytes
MAX_RANK = 8
MAX_SIZES = 64  # numbers of a constant that is read: above any shape or pair of pads
MAX_ELEMENTS = 1 << 28  # that constants ask for in all: 1 GB in float, as `convert` bounds tensors
VARINT, SPAN, FIXED = 0, 2, {1: 8, 5: 4}  # protobuf's wire types; of those of fixed size, bytes
# TensorProto.DataType -> how a number lies in raw_data.
RAW = {1: "f", 6: "i", 7: "q", 11: "d"}
FLOAT, INTEGERS = 1, {6: 5, 7: 7}  # TensorProto.DataType: int32, int64 -> the field they lie in
SEVERAL = 4  # numbers that a byte may hold: types of 4 and 2 bits
DATA = (4, 5, 6, 7, 9, 10, 11)  # TensorProto: float, int32, string, int64, raw, double, uint64
STRINGS = 6
GRAPHS, SPARSE = (6, 11), (22, 23)  # AttributeProto: g, graphs; sparse_tensor, sparse_tensors
# Operator -> which inputs say how large its result becomes (Resize: scales or sizes by version).
SIZES = {
    b"BlackmanWindow": (0,),
    b"CenterCropPad": (1,),
    b"Col2Im": (1,),
    b"ConstantOfShape": (0,),
    b"Expand": (1,),
    b"HammingWindow": (0,),
    b"HannWindow": (0,),
    b"MaxUnpool": (2,),
    b"OneHot": (1,),
    b"Resize": (1, 2, 3),
    b"Tile": (1,),
    b"Upsample": (1,),
}
# Attributes: of any operator; of any that pads; of a Constant.
SAID = (b"output_shape", b"scales", b"shape")
PADS = (b"pads", b"paddings")
VALUES = (b"value", b"value_int", b"value_ints", b"value_float", b"value_floats")
SAYING = {*SAID, *PADS, *VALUES}
Numbers = tuple[float, ...]


class Damaged(Exception):
    """What is wrong, as "wanted ..., found ...". Never leaves this module."""


def check_file(path: Path) -> None:
    """Raise BackendUnavailable, naming the path, unless the file is one network of sound form.

    Raises OSError where the file cannot be read.
    """
    with open(path, "rb") as file:
        if not file.read(1):
            raise BackendUnavailable(f"{path}: wanted an ONNX file, found an empty one")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            try:
                _check_model(File(content).message(0, len(content)))
            except Damaged as what:
                raise BackendUnavailable(
                    f"{path}: {what}; the artifact is damaged: convert the model again"
                ) from None


class File:
    """Reads a file's messages and counts their fields."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self._left = MAX_FIELDS

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return a number of up to 64 bits, unsigned, and where it ends."""
        content, value, shift = self.content, 0, 0
        while at < end and shift < 70:
            byte = content[at]
            at += 1
            if byte < 0x80:
                return (value | byte << shift) & 0xFFFF_FFFF_FFFF_FFFF, at
            value |= (byte & 0x7F) << shift
            shift += 7
        raise Damaged(f"wanted an ONNX file, found no number before byte {at}")

    def message(self, start: int, end: int) -> Message:
        """Read a message's fields; their content is left alone."""
        fields: dict[int, list[tuple[int, int, int]]] = {}
        at, varint, read = start, self.varint, 0
        while at < end:
            key, at = varint(at, end)
            field, wire = key >> 3, key & 7
            if wire == SPAN:
                size, at = varint(at, end)
                value, at = at, at + size
            elif wire == VARINT:
                value, at = varint(at, end)
            elif wire in FIXED:
                value, at = at, at + FIXED[wire]
            else:
                raise Damaged(f"wanted an ONNX file, found a field of kind {wire} before byte {at}")
            read += 1
            if not 0 < field < 1 << 29 or at > end or read > self._left:
                raise Damaged(
                    f"wanted an ONNX file of up to {MAX_FIELDS} fields, found field {field} "
                    f"that ends at byte {at} of {end}"
                )
            fields.setdefault(field, []).append((wire, value, at))
        self._left -= read
        return Message(self, fields)


class Message:
    """One message. fields: number -> (wire type, value or first byte, end), in the file's order.

    A field of another wire type than asked for is left out, as protobuf does.
    """

    def __init__(self, file: File, fields: dict[int, list[tuple[int, int, int]]]) -> None:
        self.file, self.fields = file, fields

    def spans(self, field: int) -> list[tuple[int, int]]:
        """Return (start, end) of what has a length: messages, strings, packed numbers."""
        return [(a, b) for wire, a, b in self.fields.get(field, ()) if wire == SPAN]

    def messages(self, field: int) -> Iterator[Message]:
        """Yield the messages of a repeated field."""
        for start, end in self.spans(field):
            yield self.file.message(start, end)

    def message(self, field: int) -> Message | None:
        """Return the message of a field that may stand once, None where it is absent."""
        spans = self.spans(field)
        if len(spans) > 1:  # protobuf would merge them
            raise Damaged(f"wanted field {field} once, found it {len(spans)} times")
        return self.file.message(*spans[0]) if spans else None

    def texts(self, field: int) -> list[bytes]:
        """Return the strings of a field."""
        texts = []
        for start, end in self.spans(field):
            if end - start > MAX_NAME:
                raise Damaged(f"wanted names of up to {MAX_NAME} bytes, found one of {end - start}")
            texts.append(self.file.content[start:end])
        return texts

    def text(self, field: int) -> bytes:
        """Return the string of a field, empty where it is absent."""
        return (self.texts(field) or [b""])[-1]

    def integers(self, field: int, most: int) -> tuple[int, ...]:
        """Return the first signed numbers of a field, packed or not: `most`, and one where more."""
        numbers: list[int] = []
        for wire, at, end in self.fields.get(field, ()):
            if wire == VARINT:
                numbers.append(at)
            while wire == SPAN and at < end and len(numbers) <= most:
                number, at = self.file.varint(at, end)
                numbers.append(number)
        return tuple(n - (1 << 64) if n >> 63 else n for n in numbers[: most + 1])

    def floats(self, field: int, most: int) -> Numbers:
        """Return the first numbers of 4 bytes of a field, as `integers` does."""
        numbers: list[float] = []
        for wire, at, end in self.fields.get(field, ()):
            if wire != VARINT and len(numbers) <= most:
                numbers += self.raw(at, min(end, at + 4 * (most + 1)), "f")
        return tuple(numbers[: most + 1])

    def raw(self, start: int, end: int, code: str) -> Numbers:
        """Return numbers as they lie in memory."""
        count = (end - start) // struct.calcsize(code)
        return struct.unpack_from(f"<{count}{code}", self.file.content, start)


def _check_model(model: Message) -> None:
    graph = model.message(7)
    if graph is None or not graph.spans(1):
        raise Damaged("wanted an ONNX file, found no network in it")
    if model.spans(25):
        raise Damaged("wanted plain operators, found functions of the file's own")
    if graph.spans(15):
        raise Damaged("wanted dense weights, found sparse ones")
    nodes = [Node(message) for message in graph.messages(1)]
    known = _constants(graph, nodes)
    asked = 0.0
    for node in nodes:
        asked += node.size(known)
        if not asked <= MAX_ELEMENTS:  # and where it is no number
            raise Damaged(
                f"wanted constants to ask for up to {MAX_ELEMENTS} numbers in all, found "
                f"{asked:.4g} with {node.label}"
            )


def _constants(graph: Message, nodes: list[Node]) -> dict[bytes, Numbers]:
    """Return the small constants by name. ONNX Runtime takes either of two of one name."""
    named = [(tensor.text(8), _check_tensor(tensor)) for tensor in graph.messages(5)]
    for node in nodes:
        if node.kind == b"Constant":
            value = next((node.attributes[k] for k in VALUES if k in node.attributes), ())
            named += [(name, value) for name in node.outputs]
    known = dict(named)
    if len(known) != len(named):
        raise Damaged(f"wanted every constant once, found {len(named)} of {len(known)} name(s)")
    return known


def _check_tensor(tensor: Message) -> Numbers:
    """Refuse a constant that the file does not hold; return the numbers of a small one."""
    if tensor.spans(13) or any(tensor.integers(14, 1)):
        raise Damaged("wanted all weights inside the file, found them in another file")
    dims = tensor.integers(1, MAX_RANK)
    held = sum(
        end - start + (field == STRINGS) if wire == SPAN else 1  # a string may be empty
        for field in DATA
        if field in tensor.fields
        for wire, start, end in tensor.fields[field]
    )
    count = math.prod(dims)
    if len(dims) > MAX_RANK or min(dims, default=0) < 0 or count > SEVERAL * held:
        raise Damaged(f"wanted constants the file holds, found {dims!s:.80} in {held} bytes")
    return _numbers(tensor) if count <= MAX_SIZES else ()


def _numbers(tensor: Message) -> Numbers:
    """Return a small constant's numbers; none of a type that says no sizes."""
    kind = (tensor.integers(2, 1) or (0,))[-1] & 0xFFFF_FFFF
    raw = tensor.spans(9)
    if kind in RAW and raw:
        start, end = raw[-1]
        return tensor.raw(start, min(end, start + 8 * MAX_SIZES), RAW[kind])
    if kind == FLOAT:
        return tensor.floats(4, MAX_SIZES)
    return tensor.integers(INTEGERS[kind], MAX_SIZES) if kind in INTEGERS else ()


class Node:
    """One operator; the tensors in its attributes are checked."""

    def __init__(self, message: Message) -> None:
        self.inputs, self.outputs = message.texts(1), message.texts(2)
        self.kind = message.text(4)
        if self.kind == b"EPContext":
            raise Damaged("wanted operators, found EPContext: what a library made of some before")
        self.name = message.text(3) or b" ".join(self.outputs[:1])
        named = [(a.text(1), self._attribute(a)) for a in message.messages(5)]
        self.attributes: dict[bytes, Numbers] = dict(named)
        if len(self.attributes) != len(named):
            raise Damaged(f"wanted every attribute once, found one of {self.label} twice")

    @property
    def label(self) -> str:
        """Its operator and its name, for messages."""
        return f"{self.kind.decode(errors='replace')} {self.name.decode(errors='replace')!r:.80}"

    def _attribute(self, attribute: Message) -> Numbers:
        """Return an attribute's numbers where they may say a size."""
        held = attribute.fields
        if any(field in held for field in GRAPHS):
            raise Damaged(f"wanted plain operators, found {self.label} with a graph of its own")
        if any(field in held for field in SPARSE):
            raise Damaged("wanted dense weights, found sparse ones")
        tensor = attribute.message(5)
        tensors = [_check_tensor(t) for t in ([tensor] if tensor else [])]
        tensors += [_check_tensor(t) for t in attribute.messages(10)]
        if attribute.text(1) not in SAYING:
            return ()
        one, many = attribute.integers(3, 1)[:1], attribute.integers(8, MAX_SIZES)
        real, reals = attribute.floats(2, 1)[:1], attribute.floats(7, MAX_SIZES)
        return (*one, *many, *real, *reals, *(n for numbers in tensors for n in numbers))

    def size(self, known: dict[bytes, Numbers]) -> float:
        """Return how many numbers this operator's constants ask for, at the least."""
        given = [known.get(name, ()) for name in self.inputs]
        sizes = [given[i] for i in SIZES.get(self.kind, ()) if i < len(given)]
        sizes += [self.attributes[k] for k in SAID if k in self.attributes]
        pads = [self.attributes[k] for k in PADS if k in self.attributes]
        if self.kind == b"Pad":
            pads += given[1:2]
        for ends in pads:  # all that stand before, then all that stand after
            half = len(ends) // 2
            sizes.append(tuple(a + b for a, b in zip(ends[:half], ends[half:], strict=False)))
        if self.kind == b"Range" and all(given[:3]) and len(given) == 3:
            start, limit, step = (values[0] for values in given)
            sizes.append(((limit - start) / step if step else math.inf,))
        return sum(_product(numbers) for numbers in sizes)


def _product(numbers: Numbers) -> float:
    return math.prod((max(abs(float(n)), 1.0) for n in numbers), start=1.0)
