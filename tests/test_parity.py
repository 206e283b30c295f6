"""Parity: what the calibrator saw of a frame is, bit for bit, what a backend is fed of it.

For every target the same twelve frames go two ways: through `gather` and the calibrator's tensors
into the real quantizer, and through a camera source and `EdgeSegmenter` into the real runtime.
Where the artifact eats integers, the calibrator's floats are first taken to codes by the shared
table of 256 entries; where it eats floats they are compared as they are, and the quantisation at
the head of the artifact's own graph is run alone and held against that table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

onnx = pytest.importorskip("onnx", reason="the extra [convert] is not installed")
pytest.importorskip("ai_edge_quantizer", reason="the extra [convert] is not installed")
pytest.importorskip("nncf", reason="the extra [convert] is not installed")

from numpy.typing import NDArray  # noqa: E402
from onnx import helper  # noqa: E402

from edge_seg.backends import open_backend, readers  # noqa: E402
from edge_seg.calibration.frames import gather  # noqa: E402
from edge_seg.camera import open_source  # noqa: E402
from edge_seg.converters import openvino, targets  # noqa: E402
from edge_seg.converters.targets import OUTPUT, Network, Workpiece  # noqa: E402
from edge_seg.engine import Engine  # noqa: E402
from edge_seg.pixels import input_table  # noqa: E402
from edge_seg.segmenter import EdgeSegmenter  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec, TensorSpec  # noqa: E402
from tests.tiny_onnx import Builder, run  # noqa: E402
from tests.tiny_tflite import save_conv  # noqa: E402

Floats = NDArray[np.float32]
Tensor = NDArray[Any]

SIZE = (24, 32)
SPECS = {
    "centred, letterbox": InputSpec(*SIZE),
    "imagenet, stretched": InputSpec(
        *SIZE, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fit="stretch"
    ),
    "raw bgr": InputSpec(*SIZE, mean=(0.0,) * 3, std=(1 / 255,) * 3, color="bgr", pad=0),
}


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of many sizes: a photograph, every level of every channel, noise, the ends."""
    skimage = pytest.importorskip("skimage.data", reason="the extra [demo] is not installed")
    random = np.random.default_rng(0)
    photograph = cv2.cvtColor(skimage.astronaut(), cv2.COLOR_RGB2BGR)  # public domain (NASA)
    levels = np.arange(256, dtype=np.uint8)
    ramp = np.stack([levels, levels[::-1], np.roll(levels, 90)], axis=1)
    small = np.tile(ramp.reshape(1, 256, 3), (3, 3, 1))[:, : SIZE[0] * SIZE[1] // 3]
    made = [photograph, photograph[100:400:2, ::3], photograph // 5]
    # Of the network's own size nothing is resized: every level of every channel arrives.
    made += [small.reshape(*SIZE, 3), np.tile(ramp, (2, 1, 1)).transpose(1, 0, 2)]
    made += [np.full((48, 64, 3), value, np.uint8) for value in ((0, 0, 0), (255, 255, 255))]
    sizes = ((720, 1280), (1280, 720), (23, 31), (5, 200), (480, 640))
    made += [random.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    folder = tmp_path_factory.mktemp("frames")
    for number, frame in enumerate(made):
        suffix = "jpg" if number % 3 == 0 and number != 3 else "png"
        cv2.imwrite(str(folder / f"{number:02d}.{suffix}"), frame)
    return folder


class Recording(Workpiece):
    """A workpiece that keeps a copy of every tensor it hands to a quantizer."""

    def tensors(self, layout: str) -> Iterator[NDArray[np.generic]]:
        self.seen: list[Floats] = []
        for tensor in super().tensors(layout):
            self.seen.append(np.array(tensor, dtype=np.float32))
            assert tensor.dtype == np.float32
            yield tensor


class Listening:
    """A backend that keeps a copy of every tensor it is fed, and passes it on."""

    def __init__(self, backend: Any) -> None:
        self.input, self.output, self._backend = backend.input, backend.output, backend
        self.fed: list[Tensor] = []

    def infer(self, tensor: Tensor) -> Tensor:
        self.fed.append(tensor.copy())
        return np.asarray(self._backend.infer(tensor))

    def close(self) -> None:
        self._backend.close()


def converted(target: str, spec: InputSpec, frames: Path, folder: Path) -> tuple[Path, Recording]:
    """Quantize a convolution for a target; onnx2tf takes no part (its float file is hand-made)."""
    b = Builder((1, 3, *SIZE), seed=3)
    path = folder / "conv.onnx"
    onnx.save(b.model(b.conv("picture", 3, 1, kernel=3)), path)
    network = Network(path, spec, OutputSpec("logit", 0))
    work = Recording(network, gather(frames, spec, count=12), folder, lambda m, done, total: None)
    weight, bias = (b.constants[name] for name in ("c0", "c1"))
    save_conv(folder / "model-fp32.tflite", weight.transpose(0, 2, 3, 1), bias, SIZE)
    artifact = targets.TARGETS[target][1](work)
    return folder / artifact.file, work


def fed(target: str, path: Path, spec: InputSpec, frames: Path) -> Listening:
    """Send the frames through the runtime's own line of calls."""
    backend = Listening(open_backend(readers(target)[0], path))
    with (
        EdgeSegmenter.on(Engine(spec, OUTPUT, backend=backend)) as segmenter,
        open_source(frames) as source,
    ):
        backend.fed.clear()  # of the pictures it was tried with when it was opened
        for shot in source:
            segmenter.segment(shot.frame)
    return backend


def levels_of(tensor: Floats, spec: InputSpec) -> NDArray[np.intp]:
    """The pixel values a calibrator's tensor (1, h, w, 3) was made of, by the float formula."""
    real = tensor.astype(np.float64) * np.array(spec.std) + np.array(spec.mean)
    levels = np.rint(255 * real)
    np.testing.assert_allclose(255 * real, levels, atol=1e-3)
    return levels.astype(np.intp)


def by_table(levels: NDArray[np.intp], table: NDArray[np.generic]) -> Tensor:
    """Take pixel values (1, h, w, 3) to codes by a table (256, 3)."""
    return np.stack([table[levels[..., c], c] for c in range(3)], axis=-1)


@pytest.fixture(scope="module", params=list(SPECS))
def spec(request: pytest.FixtureRequest) -> InputSpec:
    return SPECS[request.param]


Pair = tuple[Path, list[Floats], Listening]


@pytest.fixture(scope="module")
def pairs(
    spec: InputSpec, frames: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pair]:
    """Return, per target, its artifact, what the calibrator saw and what the backend was fed."""
    made: dict[str, Pair] = {}

    def of(target: str) -> Pair:
        if target not in made:
            path, work = converted(target, spec, frames, tmp_path_factory.mktemp(target))
            made[target] = (path, work.seen, fed(target, path, spec, frames))
        return made[target]

    return of


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_the_backend_is_fed_what_the_calibrator_saw(
    spec: InputSpec, target: str, pairs: Callable[[str], Pair]
) -> None:
    _, seen, backend = pairs(target)
    assert len(seen) == len(backend.fed) == 12
    nchw = backend.input.layout == "nchw"
    for calibrated, eaten in zip(seen, backend.fed, strict=True):
        assert eaten.dtype == backend.input.dtype and eaten.shape == backend.input.shape
        wanted: Tensor = calibrated
        if backend.input.quantized:
            last = calibrated.transpose(0, 2, 3, 1) if nchw else calibrated
            wanted = by_table(levels_of(last, spec), input_table(spec, backend.input))
            wanted = wanted.transpose(0, 3, 1, 2) if nchw else wanted
        assert eaten.tobytes() == np.ascontiguousarray(wanted).tobytes()


@pytest.mark.parametrize("target", list(targets.TARGETS))
def test_the_tensor_is_the_picture_by_the_float_formula(
    spec: InputSpec, target: str, frames: Path, pairs: Callable[[str], Pair]
) -> None:
    """The other tests compare two of our own ways: this one holds them against a frame."""
    _, seen, backend = pairs(target)
    frame = cv2.imread(str(frames / "03.png"))  # of the network's size
    picture = frame[:, :, ::-1] if spec.color == "rgb" else frame
    assert all(len(np.unique(picture[:, :, c])) == 256 for c in range(3))
    real = (picture / 255 - np.array(spec.mean)) / np.array(spec.std)
    found = seen[3][0] if seen[3].shape[-1] == 3 else seen[3][0].transpose(1, 2, 0)
    np.testing.assert_allclose(found, real, rtol=1e-6, atol=1e-6)
    if backend.input.quantized:
        codes = backend.fed[3][0].astype(np.float64)
        codes = codes.transpose(1, 2, 0) if backend.input.layout == "nchw" else codes
        back = backend.input.scale * (codes - backend.input.zero_point)
        np.testing.assert_allclose(back, real, atol=backend.input.scale * 0.501)


# --- the quantisation inside the graph, where floats are fed --------------------------------------


def test_onnx_quantises_its_input_as_the_shared_table_does(
    spec: InputSpec, pairs: Callable[[str], Pair]
) -> None:
    path, seen, backend = pairs("onnx")
    model = onnx.load(path)
    name = model.graph.input[0].name
    first = next(n for n in model.graph.node if name in n.input)
    nodes = [first]
    constants = {t.name: t for t in model.graph.initializer}
    if first.op_type == "Add":  # every level moved by half a step, onto a code of its own
        nodes = [first, next(n for n in model.graph.node if first.output[0] in n.input)]
    quantize = nodes[-1]
    assert quantize.op_type == "QuantizeLinear"
    scale, zero = (onnx.numpy_helper.to_array(constants[n]) for n in quantize.input[1:])
    assert zero.dtype == np.int8 and zero.item() == 0
    head = helper.make_model(
        helper.make_graph(
            nodes,
            "head",
            list(model.graph.input),
            [helper.make_tensor_value_info(quantize.output[0], onnx.TensorProto.INT8, None)],
            [constants[n] for node in nodes for n in node.input if n in constants],
        ),
        opset_imports=model.opset_import,
        ir_version=8,
    )
    # The move is what a zero point of -1 is to a table that rounds half up.
    moved = -1 if len(nodes) == 2 else 0
    eats = TensorSpec(backend.input.shape, "int8", "nchw", scale=float(scale), zero_point=moved)
    table = input_table(spec, eats)
    assert not moved or len(np.unique(table[:, 0])) == 256
    assert bool(moved) == (spec.mean == spec.std == (0.5, 0.5, 0.5))
    for calibrated, eaten in zip(seen, backend.fed, strict=True):
        levels = levels_of(calibrated.transpose(0, 2, 3, 1), spec)
        wanted = by_table(levels, table).transpose(0, 3, 1, 2)
        np.testing.assert_array_equal(run(head, eaten), wanted)


def test_openvino_quantises_its_input_as_the_shared_table_does(
    spec: InputSpec, pairs: Callable[[str], Pair]
) -> None:
    ov = pytest.importorskip("openvino")
    path, seen, backend = pairs("openvino")
    network = ov.Core().read_model(path)
    quantize = openvino._input_quantize(network)
    assert quantize is not None and quantize.get_levels() == 256
    low, high = openvino.input_range(path) or (0.0, 0.0)
    scale = (high - low) / 255
    head = ov.Model([quantize.output(0)], network.get_parameters(), "head")
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(head, "CPU", settings)
    # Codes count from the lowest value, wherever zero lies: the table of that spec, shifted.
    eats = TensorSpec(backend.input.shape, "uint8", "nchw", scale=scale)
    mean = [m + low * s for m, s in zip(spec.mean, spec.std, strict=True)]
    shifted = InputSpec(*SIZE, mean=(mean[0], mean[1], mean[2]), std=spec.std)
    for calibrated, eaten in zip(seen, backend.fed, strict=True):
        levels = levels_of(calibrated.transpose(0, 2, 3, 1), spec)
        wanted = by_table(levels, input_table(shifted, eats)).transpose(0, 3, 1, 2)
        found = np.rint((compiled(eaten)[0] - low) / scale)
        np.testing.assert_array_equal(found, wanted)


# --- the same from a video ------------------------------------------------------------------------


def test_a_video_s_frames_are_the_same_both_ways(tmp_path: Path) -> None:
    spec = InputSpec(*SIZE)
    writer = cv2.VideoWriter(
        str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (96, 64)
    )
    for seed in range(12):
        random = np.random.default_rng(seed).integers(0, 256, (8, 12, 3), dtype=np.uint8)
        writer.write(cv2.resize(random, (96, 64)))
    writer.release()
    path, work = converted("openvino", spec, tmp_path / "v.avi", tmp_path)
    backend = fed("openvino", path, spec, tmp_path / "v.avi")
    assert len(work.seen) == len(backend.fed) == 12
    for calibrated, eaten in zip(work.seen, backend.fed, strict=True):
        assert eaten.tobytes() == calibrated.tobytes()


def test_the_comparison_would_notice_swapped_colours(frames: Path, tmp_path: Path) -> None:
    path, work = converted("onnx", SPECS["raw bgr"], frames, tmp_path)
    swapped = InputSpec(*SIZE, mean=(0.0,) * 3, std=(1 / 255,) * 3, color="rgb", pad=0)
    backend = fed("onnx", path, swapped, frames)
    differ = [not np.array_equal(a, b) for a, b in zip(work.seen, backend.fed, strict=True)]
    assert sum(differ) == 10, "all but the black frame and the white one"
