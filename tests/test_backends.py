"""Every backend against the contract, with real networks small enough to write in a test."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg.backends import BACKENDS, Backend, entry, load_class, open_backend
from edge_seg.engine import Engine
from edge_seg.errors import BackendFailure, BackendUnavailable, BundleError
from edge_seg.spec import InputSpec, OutputSpec
from tests import tiny_networks
from tests.backend_contract import BackendContract, random_tensor


class TestFakeFloat(BackendContract):
    """The fake backend in float."""

    name = "fake"
    tolerance = 1e-5
    dtype = "float32"

    def write_artifact(self, folder: Path) -> Path:
        path = folder / "fake.json"
        path.write_text(json.dumps({"height": 24, "width": 32, "dtype": self.dtype}))
        return path

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        """8 x the mean of each 4x4 cell, over all channels."""
        height, width, _ = real.shape
        cells = real.reshape(height // 4, 4, width // 4, 4, 3)
        return np.asarray(8.0 * cells.mean(axis=(1, 3, 4)))[:, :, None]


class TestFakeInt8(TestFakeFloat):
    """The fake backend in int8: half a step of 8/127."""

    tolerance = 0.51 * 8 / 127
    dtype = "int8"


def written(path: Path, *, quantized: bool) -> Path:
    """Write the tiny network, or copy it from where it was written for a Python that cannot."""
    kept = os.environ.get("EDGE_SEG_TINY_NETWORKS")
    if kept is not None:
        return Path(shutil.copy(Path(kept) / path.name, path))
    pytest.importorskip("ai_edge_litert", reason="the tiny network is written with its schema")
    return tiny_networks.save_tflite(path, quantized=quantized)


class TestTFLiteFloat(BackendContract):
    """The installed TFLite library, float."""

    name = "tflite"
    tolerance = 1e-5

    def write_artifact(self, folder: Path) -> Path:
        return written(folder / "tiny.tflite", quantized=False)

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        return tiny_networks.logits(real)[:, :, None]


class TestTFLiteInt8(TestTFLiteFloat):
    """The same network in int8: hidden and output steps are 4/255 and 0.02."""

    tolerance = 0.06

    def write_artifact(self, folder: Path) -> Path:
        return written(folder / "tiny-int8.tflite", quantized=True)

    def test_the_table_s_codes_are_the_file_s(self, artifact: Path) -> None:
        backend = open_backend("tflite", artifact)
        assert backend.input.dtype == backend.output.dtype == "int8"
        assert backend.input.zero_point == tiny_networks.INPUT_ZERO
        assert backend.input.scale == pytest.approx(tiny_networks.INPUT_SCALE, rel=1e-6)
        assert backend.output.zero_point == tiny_networks.OUTPUT_ZERO

    def test_the_extremes_do_leave_the_output_s_range(self, artifact: Path) -> None:
        backend = open_backend("tflite", artifact)
        white = backend.infer(np.full(backend.input.shape, 127, np.int8))
        assert (white == 127).all()  # saturated, not wrapped


class TestOnnxRuntime(BackendContract):
    """ONNX Runtime on the CPU."""

    name = "onnxruntime"
    tolerance = 1e-5

    def write_artifact(self, folder: Path) -> Path:
        pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
        pytest.importorskip("onnx", reason="the tiny network is written with onnx")
        return tiny_networks.save_onnx(folder / "tiny.onnx")

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        return tiny_networks.logits(real)[:, :, None]

    @pytest.mark.parametrize("batch", [2, "batch"])
    def test_a_shape_that_is_not_one_picture_is_refused(
        self, tmp_path: Path, artifact: Path, batch: int | str
    ) -> None:
        path = tiny_networks.save_onnx(tmp_path / "many.onnx", batch=batch)
        with pytest.raises(BackendUnavailable, match=r"many\.onnx"):
            open_backend("onnxruntime", path)

    def test_a_provider_that_is_not_here_is_refused_and_never_replaced(
        self, artifact: Path
    ) -> None:
        onnxruntime = pytest.importorskip("onnxruntime")
        if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
            pytest.skip("this ONNX Runtime has CUDA")
        for provider in ("CUDA", "TensorRT"):
            with pytest.raises(BackendUnavailable) as refused:
                open_backend("onnxruntime", artifact, {"provider": provider})
            said = str(refused.value)
            assert f"wanted provider {provider}, this build has CPU" in said
            assert "onnxruntime-gpu" in said

    @pytest.mark.parametrize("provider", ["Azure", "CPUExecutionProvider", "CUDA,CPU", "", 3])
    def test_a_provider_is_one_of_three_names(self, artifact: Path, provider: object) -> None:
        with pytest.raises(BackendUnavailable, match="CPU, CUDA, TensorRT"):
            open_backend("onnxruntime", artifact, {"provider": provider})

    def test_a_session_that_would_run_elsewhere_is_refused(self) -> None:
        pytest.importorskip("onnxruntime")
        from edge_seg.backends import onnxruntime as ours

        # What InferenceSession.get_providers() said for CUDA in onnxruntime-gpu 1.31.1 on a
        # machine without CUDA: its own fallback, after a line on stderr.
        with pytest.raises(BackendUnavailable, match="would run on CPUExecutionProvider"):
            ours._check_used(["CPUExecutionProvider"], "CUDA")
        ours._check_used(["CUDAExecutionProvider", "CPUExecutionProvider"], "CUDA")
        # And what it says where operators are left over but may not go to the CPU.
        with pytest.raises(BackendUnavailable, match="a part or all of it would run on the CPU"):
            ours._check_left("... but fallback to CPU EP has been explicitly disabled ...", "CUDA")


class TestOpenVINO(BackendContract):
    """OpenVINO on the CPU: weights in 16 bits."""

    name = "openvino"
    tolerance = 3e-3

    def write_artifact(self, folder: Path) -> Path:
        pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
        onnx = pytest.importorskip("onnx", reason="the tiny network is written with onnx")
        from edge_seg.converters import openvino

        model = onnx.load(tiny_networks.save_onnx(folder / "tiny.onnx"))
        openvino.to_float(model, folder / "tiny.xml")
        return folder / "tiny.xml"

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        return tiny_networks.logits(real)[:, :, None]


def has_byte_products() -> bool:
    """Whether the processor adds products of bytes in 32 bits (VNNI, AMX, ARM)."""
    flags = set(Path("/proc/cpuinfo").read_text().split()) if sys.platform == "linux" else set()
    return bool({"avx512_vnni", "avx_vnni", "amx_int8", "asimd"} & flags)


class TestOpenVINOInt8(TestOpenVINO):
    """The same network in NNCF's int8: hidden steps of about 4/255, weights of 1/127."""

    tolerance = 0.08

    def write_artifact(self, folder: Path) -> Path:
        pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
        pytest.importorskip("nncf", reason="the extra [convert] is not installed")
        onnx = pytest.importorskip("onnx", reason="the tiny network is written with onnx")
        from edge_seg.converters import openvino

        model = onnx.load(tiny_networks.save_onnx(folder / "tiny.onnx"))
        random, shape = np.random.default_rng(5), (1, 3, tiny_networks.HEIGHT, tiny_networks.WIDTH)
        seen = [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(10)]
        for tensor in seen:  # every range is the mean over the tensors of their extremes
            tensor[:, :, :8], tensor[:, :, 8:16] = -1, 1
        openvino.to_int8(model, folder / "tiny8.xml", tensors=seen)
        return folder / "tiny8.xml"

    def test_extremes_saturate(self, backend: Backend) -> None:
        if not has_byte_products():
            pytest.skip("without VNNI, OpenVINO adds products of bytes in 16 bits: large ones clip")
        super().test_extremes_saturate(backend)


class OfficialNetwork(BackendContract):
    """A network as it is used, through ONNX Runtime, against OpenCV's own ONNX engine."""

    name = "onnxruntime"
    tolerance = 2e-3  # of a probability: two float engines, 48 convolutions deep
    file: str

    @pytest.fixture(autouse=True)
    def _locate(self, models_dir: Path) -> None:
        pytest.importorskip("onnxruntime", reason="the extra [onnxruntime] is not installed")
        self._path = models_dir / self.file

    def write_artifact(self, folder: Path) -> Path:
        path = folder / self.file
        path.write_bytes(self._path.read_bytes())
        return path

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        # OpenCV 5's new engine answers differently from run to run on V2; its classic one is exact.
        classic = getattr(cv2.dnn, "ENGINE_CLASSIC", None)
        network = cv2.dnn.readNetFromONNX(str(self._path), *(() if classic is None else (classic,)))
        network.setInput(real.transpose(2, 0, 1)[None].astype(np.float32))
        return np.asarray(network.forward()[0].transpose(1, 2, 0), dtype=np.float64)


class TestOfficialV1(OfficialNetwork):
    """PP-HumanSegV1-Lite."""

    file = "pphumanseg_v1_lite_portrait_398x224_softmax.onnx"


class TestOfficialV2(OfficialNetwork):
    """PP-HumanSegV2-Lite."""

    file = "pphumanseg_v2_lite_portrait_256x144_softmax.onnx"


@pytest.mark.parametrize("name", BACKENDS)
def test_every_row_of_the_table_leads_to_a_class_or_says_what_to_install(name: str) -> None:
    try:
        found = load_class(name)
    except BackendUnavailable as refusal:
        assert entry(name).install in str(refusal)
    else:
        assert found.__module__ == entry(name).module
        assert found.__name__ == entry(name).name


def test_an_unknown_backend_names_those_there_are() -> None:
    with pytest.raises(BackendUnavailable) as caught:
        entry("abacus")
    assert all(name in str(caught.value) for name in ("abacus", *BACKENDS))


def test_a_library_that_is_not_installed_is_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # None in sys.modules is Python's own way to say "not importable".
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.delitem(sys.modules, "edge_seg.backends.onnxruntime", raising=False)
    with pytest.raises(BackendUnavailable) as caught:
        open_backend("onnxruntime", tmp_path / "any.onnx")
    assert entry("onnxruntime").install in str(caught.value)


def test_neither_tflite_library_is_a_sentence_with_both_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(BackendUnavailable) as caught:
        open_backend("tflite", tmp_path / "any.tflite")
    assert "ai-edge-litert" in str(caught.value) and "tflite-runtime" in str(caught.value)


@pytest.mark.parametrize("threads", [True, 257, -1, 2.0])
def test_a_number_of_threads_that_is_none_starts_none(fake_bundle: Path, threads: object) -> None:
    with pytest.raises(BackendUnavailable, match=rf"threads as a number of 1\.\.256, .*{threads}"):
        open_backend("fake", fake_bundle / "fake-int8.json", {"threads": threads})


@pytest.mark.parametrize("kind", [TestTFLiteFloat, TestOnnxRuntime])
def test_the_library_computes_in_as_many_threads_as_were_asked_for(
    tmp_path: Path, kind: type[BackendContract]
) -> None:
    tasks = Path("/proc/self/task")
    if not tasks.is_dir():
        pytest.skip("threads are counted in Linux's /proc")
    path, helpers = kind().write_artifact(tmp_path), []
    for threads in (1, 3):
        before = set(tasks.iterdir())
        backend = open_backend(kind.name, path, {"threads": threads})
        backend.infer(random_tensor(backend))
        helpers.append(len(set(tasks.iterdir()) - before))
        backend.close()
    assert helpers == [0, 2], "beside the one that calls"


def test_an_artifact_that_does_not_fit_the_bundle_is_closed_again(fake_bundle: Path) -> None:
    """Who falls back must not keep the memory, or the device, of what was refused."""
    backend = open_backend("fake", fake_bundle / "fake-int8.json")
    tensor = np.zeros(backend.input.shape, np.int8)
    backend.infer(tensor)
    with pytest.raises(BundleError, match="wanted an input of 32x32x3"):
        Engine(InputSpec(32, 32), OutputSpec(), backend=backend)
    with pytest.raises(BackendFailure, match="closed"):
        backend.infer(tensor)
