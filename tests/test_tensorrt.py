"""The TensorRT backend on stand-ins of TensorRT and CUDA that enforce their rules.

No Jetson takes part: see tests/stand_ins/README.md for what this proves and what it cannot.
"""

from __future__ import annotations

import ctypes
import inspect
import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_seg import EdgeSegmenter
from edge_seg.backends import open_backend
from edge_seg.bundle import ModelBundle, describe, save_manifest
from edge_seg.cli import main
from edge_seg.errors import BackendFailure, BackendUnavailable
from edge_seg.metrics import iou
from edge_seg.spec import InputSpec, OutputSpec
from tests import tiny_networks
from tests.backend_contract import BackendContract, random_tensor
from tests.test_default import portraits  # noqa: F401

HERE = Path(__file__).parent
STAND_INS = HERE / "stand_ins"
SURFACES = {
    version: json.loads((HERE / "fixtures" / "tensorrt" / f"{version}.json").read_text())
    for version in ("10.3.0", "11.4.0")
}


@pytest.fixture(scope="session")
def cuda_library(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The stand-in of libcudart.so.12, loaded: the loader then finds it by that name."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler for the stand-in of CUDA (apt-get install gcc)")
    made = tmp_path_factory.mktemp("cuda") / "libcudart.so.12"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libcudart.so.12"]
        + ["-o", str(made), str(STAND_INS / "cudart.c"), "-lpthread"],
        check=True,
    )
    library = ctypes.CDLL(str(made))
    library.standin_broken.restype = ctypes.c_char_p
    return library


@pytest.fixture
def vendor(cuda_library: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The stand-in package `tensorrt` on sys.path; afterwards: no rule was broken."""
    pytest.importorskip("onnxruntime", reason="the stand-in computes with it")
    pytest.importorskip("onnx", reason="the stand-in parses with it")
    names = ("tensorrt", "edge_seg.backends.tensorrt")
    for name in names:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(str(STAND_INS))
    cuda_library.standin_reset(1, -1)
    import tensorrt

    assert Path(str(tensorrt.__file__)).is_relative_to(STAND_INS)
    yield tensorrt
    assert not tensorrt.standin_broken, tensorrt.standin_broken
    assert cuda_library.standin_broken() == b""
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def onnx_file(tmp_path: Path, vendor: Any) -> Path:
    return tiny_networks.save_onnx(tmp_path / "tiny.onnx")


@pytest.mark.usefixtures("vendor")
class TestTensorRT(BackendContract):
    """The contract, on the stand-ins."""

    name = "tensorrt"
    tolerance = 1e-5

    def write_artifact(self, folder: Path) -> Path:
        return tiny_networks.save_onnx(folder / "tiny.onnx")

    def reference(self, real: NDArray[np.float64]) -> NDArray[np.float64]:
        return tiny_networks.logits(real)[:, :, None]


def test_everything_is_given_back(onnx_file: Path, cuda_library: Any) -> None:
    backend = open_backend("tensorrt", onnx_file)
    backend.infer(random_tensor(backend))
    assert cuda_library.standin_held() == 5, "two tensors, their twins, one stream"
    backend.close()
    assert cuda_library.standin_held() == 0


@pytest.mark.parametrize("allocations", range(4))
def test_memory_that_runs_out_is_a_sentence_and_leaves_nothing(
    onnx_file: Path, cuda_library: Any, allocations: int
) -> None:
    cuda_library.standin_reset(1, allocations)
    with pytest.raises(BackendUnavailable, match="out of memory") as refused:
        open_backend("tensorrt", onnx_file)
    assert str(onnx_file) in str(refused.value)
    assert cuda_library.standin_held() == 0


def test_a_machine_without_a_gpu_is_a_sentence(onnx_file: Path, cuda_library: Any) -> None:
    cuda_library.standin_reset(0, -1)
    with pytest.raises(BackendUnavailable, match="no CUDA-capable device") as refused:
        open_backend("tensorrt", onnx_file)
    assert "group video" in str(refused.value)


def test_a_device_that_is_lost_is_a_failure_and_closing_does_not_raise(
    onnx_file: Path, cuda_library: Any
) -> None:
    backend = open_backend("tensorrt", onnx_file)
    cuda_library.standin_lose()
    with pytest.raises(BackendFailure, match="unspecified launch failure"):
        backend.infer(random_tensor(backend))
    backend.close()


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("build_serialized_network", "Could not find any implementation"),
        ("deserialize_cuda_engine", "cannot open what it built"),
        ("create_execution_context", "out of memory"),
        ("set_tensor_address", "takes no memory for tensor 'x'"),
    ],
)
def test_what_tensorrt_refuses_is_said_in_its_own_words(
    onnx_file: Path, vendor: Any, cuda_library: Any, call: str, error: str
) -> None:
    vendor.standin_fail.add(call)
    with pytest.raises(BackendUnavailable, match=error) as refused:
        open_backend("tensorrt", onnx_file)
    assert str(onnx_file) in str(refused.value)
    assert cuda_library.standin_held() == 0


def test_an_inference_that_is_not_taken_is_a_failure_and_closing_waits_for_the_rest(
    onnx_file: Path, vendor: Any, cuda_library: Any
) -> None:
    backend = open_backend("tensorrt", onnx_file)
    vendor.standin_fail.add("execute_async_v3")
    with pytest.raises(BackendFailure, match="inference failed"):
        backend.infer(random_tensor(backend))
    backend.close()  # the copy that waits in the stream uses memory that is freed here
    assert cuda_library.standin_held() == 0


def test_what_tensorrt_said_before_is_not_said_again(onnx_file: Path, vendor: Any) -> None:
    told = []
    for call in ("build_serialized_network", "create_execution_context"):
        vendor.standin_fail = {call}
        with pytest.raises(BackendUnavailable) as refused:
            open_backend("tensorrt", onnx_file)
        told.append(str(refused.value))
    assert "Could not find any implementation" in told[0]
    assert "Could not find any implementation" not in told[1] and "out of memory" in told[1]


def test_a_file_of_unsound_form_is_refused_before_tensorrt_reads_it(
    onnx_file: Path, vendor: Any
) -> None:
    onnx = pytest.importorskip("onnx")
    model = onnx.load(onnx_file)
    model.graph.initializer.append(model.graph.initializer[0])
    onnx_file.write_bytes(model.SerializeToString())
    with pytest.raises(BackendUnavailable, match=r"tiny\.onnx: wanted every constant once"):
        open_backend("tensorrt", onnx_file)
    assert "Builder" not in vendor.standin_calls


@pytest.mark.parametrize("version", ["8.6.1", "10.2.0", "10.0.1"])
def test_an_older_tensorrt_is_refused(onnx_file: Path, vendor: Any, version: str) -> None:
    vendor.__version__ = version
    with pytest.raises(BackendUnavailable, match=r"wanted TensorRT 10\.3 or newer") as refused:
        open_backend("tensorrt", onnx_file)
    assert version in str(refused.value)


def test_a_shape_that_is_not_static_is_refused(tmp_path: Path, vendor: Any) -> None:
    path = tiny_networks.save_onnx(tmp_path / "many.onnx", batch="batch")
    with pytest.raises(BackendUnavailable, match="static shapes") as refused:
        open_backend("tensorrt", path)
    assert str(path) in str(refused.value)


# --- the cache ------------------------------------------------------------------------------------


def built(vendor: Any) -> int:
    """Return how many engines were built."""
    return list(vendor.standin_calls).count("build_serialized_network")


def test_an_engine_is_built_once_and_found_again(
    onnx_file: Path, vendor: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    answers = []
    for _ in range(3):
        caplog.clear()
        backend = open_backend("tensorrt", onnx_file, cache=cache)
        answers.append(backend.infer(random_tensor(backend)))
        backend.close()
        assert ("it may take minutes" in caplog.text) == (len(answers) == 1)
    assert built(vendor) == 1
    assert np.array_equal(answers[0], answers[2])
    (entry,) = (cache / "tensorrt").iterdir()
    assert "trt10.3.0" in entry.name and "Stand-in-GPU-sm_87" in entry.name and "fp32" in entry.name


def test_another_tensorrt_another_model_are_other_engines(
    onnx_file: Path, vendor: Any, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    vendor.__version__ = "11.4.0"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    other = tmp_path / "other.onnx"
    other.write_bytes(onnx_file.read_bytes().replace(b"tiny", b"tin2"))
    open_backend("tensorrt", other, cache=cache).close()
    assert built(vendor) == len(list((cache / "tensorrt").iterdir())) == 3


def test_of_older_versions_one_engine_is_kept_for_a_way_back(
    onnx_file: Path, vendor: Any, tmp_path: Path
) -> None:
    for version in ("10.3.0", "10.7.0", "11.4.0"):
        vendor.__version__ = version
        open_backend("tensorrt", onnx_file, cache=tmp_path).close()
    names = sorted(entry.name for entry in (tmp_path / "tensorrt").iterdir())
    assert len(names) == 2 and "trt10.7.0" in names[0] and "trt11.4.0" in names[1]


def test_a_module_with_other_multiprocessors_has_an_engine_of_its_own(
    onnx_file: Path, vendor: Any, cuda_library: Any, tmp_path: Path
) -> None:
    """Every Orin is called "Orin" and has compute capability 8.7."""
    cache = tmp_path / "cache"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    cuda_library.standin_multiprocessors(16)
    open_backend("tensorrt", onnx_file, cache=cache).close()
    names = sorted(entry.name for entry in (cache / "tensorrt").iterdir())
    assert built(vendor) == len(names) == 2
    assert "sm_87-16-SM-" in names[0] and "sm_87-8-SM-" in names[1]


def test_what_tensorrt_warns_of_when_it_loads_an_engine_is_said(
    onnx_file: Path, vendor: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    vendor.standin_warns.append("Using an engine plan file across different models of devices")
    cache = tmp_path / "cache"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    assert "models of devices" not in caplog.text, "what is built here fits"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    assert built(vendor) == 1 and "models of devices" in caplog.text
    caplog.clear()
    open_backend("tensorrt", onnx_file, progress=lambda *step: None).close()
    assert "models of devices" not in caplog.text


def test_an_int8_network_carries_its_precision_itself(tmp_path: Path, vendor: Any) -> None:
    onnx = pytest.importorskip("onnx")
    from edge_seg.converters import qdq

    random, shape = np.random.default_rng(3), (1, 3, tiny_networks.HEIGHT, tiny_networks.WIDTH)
    tensors = [random.uniform(-1, 1, shape).astype(np.float32) for _ in range(10)]
    model = onnx.load(tiny_networks.save_onnx(tmp_path / "tiny.onnx"))
    qdq.to_int8(model, tmp_path / "int8.onnx", tensors=tensors)
    backend = open_backend("tensorrt", tmp_path / "int8.onnx", cache=tmp_path / "cache")
    tensor = random_tensor(backend)
    truth = tiny_networks.logits(tensor[0].transpose(1, 2, 0))
    assert 0 < np.abs(backend.infer(tensor)[0, 0] - truth).max() < 0.2
    assert "-int8-" in next((tmp_path / "cache" / "tensorrt").iterdir()).name


@pytest.mark.usefixtures("vendor")
@pytest.mark.parametrize("network", ["portrait", "portrait-lite"])
def test_the_network_that_ships_runs_in_int8_and_says_what_tflite_says(
    network: str,
    tmp_path: Path,
    portraits: dict[str, NDArray[np.uint8]],  # noqa: F811
) -> None:
    frame, masks = np.ascontiguousarray(portraits["hopper"][..., :3]), []
    for board, artifact in (("jetson-orin-nano", "onnx-int8"), ("generic", "tflite-int8")):
        with EdgeSegmenter.open(network, board=board, cache=tmp_path, smoother=None) as segmenter:
            assert not segmenter.degraded, segmenter.reason
            assert segmenter.artifact is not None and segmenter.artifact.name == artifact
            masks.append(segmenter.segment(frame) >= 0.5)
    assert iou(*masks) > 0.97


@pytest.mark.parametrize("damage", ["cut", "bit", "refused"])
def test_an_entry_that_is_damaged_is_built_again(
    onnx_file: Path, vendor: Any, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    cache = tmp_path / "cache"
    open_backend("tensorrt", onnx_file, cache=cache).close()
    (entry,) = (cache / "tensorrt").iterdir()
    whole = entry.read_bytes()
    if damage == "refused":  # whole, but TensorRT does not take it: another driver, say
        from edge_seg.cache import write_entry

        facts = json.loads(whole.split(b"\n")[0][len("edge-seg cache 1 ") :])
        facts.pop("sha256")
        write_entry(entry, b"plan 9.9.9 nothing\n", facts)
    else:
        turned = bytearray(whole)
        turned[len(whole) // 2] ^= 1
        entry.write_bytes(whole[:-1] if damage == "cut" else bytes(turned))
    backend = open_backend("tensorrt", onnx_file, cache=cache)
    assert backend.infer(random_tensor(backend)).shape == backend.output.shape
    assert built(vendor) == 2 and str(entry) in caplog.text
    assert entry.read_bytes() == whole


def test_a_cache_that_cannot_be_written_is_said(
    onnx_file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backend = open_backend("tensorrt", onnx_file, cache=Path("/proc/nowhere"))
    backend.infer(random_tensor(backend))
    assert "built anew at every start" in caplog.text and "EDGE_SEG_CACHE" in caplog.text


def test_prepare_builds_the_engine_that_opening_loads(
    onnx_file: Path,
    vendor: Any,
    cuda_library: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    bundle, board = tmp_path / "bundle", tmp_path / "orin" / "board.toml"
    for folder in (bundle, board.parent):
        folder.mkdir()
    artifact = describe(
        shutil.copy(onnx_file, bundle / "model-int8.onnx"), format="onnx", precision="int8"
    )
    input = InputSpec(tiny_networks.HEIGHT, tiny_networks.WIDTH, fit="stretch")
    save_manifest(ModelBundle(bundle, "tiny", input, OutputSpec("logit", 0), (artifact,)))
    board.write_text(
        'title = "Orin"\naliases = []\n[[runtime]]\nbackend = "tensorrt"\nprecision = "int8"\n'
    )
    words = [str(bundle), "--board", str(board), "--cache", str(tmp_path / "cache")]
    assert main(["prepare", *words]) == 0
    assert ".engine (" in capsys.readouterr().out
    assert cuda_library.standin_held() == 0, "what the next runtime may need is given back"
    with EdgeSegmenter.open(bundle, board=str(board), cache=tmp_path / "cache") as segmenter:
        assert segmenter.segment(np.full((48, 64, 3), 255, np.uint8)).shape == (48, 64)
        assert not segmenter.degraded
    assert built(vendor) == 1


# --- progress -------------------------------------------------------------------------------------


def test_building_tells_its_phases(onnx_file: Path) -> None:
    told: list[tuple[str, int, int]] = []
    open_backend("tensorrt", onnx_file, progress=lambda *step: told.append(step)).close()
    assert ("building the engine: Tactic Selection", 3, 3) in told
    assert [step for step in told if "Tactic" in step[0]] == [
        ("building the engine: Tactic Selection", done, 3) for done in range(4)
    ]


def test_ctrl_c_while_building_stops_it_without_ending_the_process(
    onnx_file: Path, cuda_library: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupt(message: str, done: int, total: int) -> None:
        raise KeyboardInterrupt

    with caplog.at_level(logging.DEBUG, "edge_seg"), pytest.raises(KeyboardInterrupt):
        open_backend("tensorrt", onnx_file, progress=interrupt)
    assert "The build was cancelled" in caplog.text, "and not first gone through for minutes"
    assert cuda_library.standin_held() == 0


# --- NVIDIA's own bindings, written down ----------------------------------------------------------


def members(kind: type) -> dict[str, Any]:
    """Return the members a stand-in class offers."""
    return {n: v for n, v in vars(kind).items() if not n.startswith("_")}


@pytest.mark.parametrize("version", SURFACES)
def test_the_stand_in_offers_nothing_that_this_version_lacks(vendor: Any, version: str) -> None:
    surface = SURFACES[version]["classes"]
    seen = 0
    for name, kind in vars(vendor).items():
        if not inspect.isclass(kind) or kind.__module__ != "tensorrt" or name.startswith("_"):
            continue
        listed = surface["ParserError" if name == "IParserError" else name]
        for member, value in members(kind).items():
            assert member in listed, f"TensorRT {version} has no {name}.{member}"
            seen += 1
            if inspect.isfunction(value):
                ours = [p for p in inspect.signature(value).parameters if p != "self"]
                theirs = listed[member]
                assert "*args" in theirs or all(f"{p}:" in theirs for p in ours), (
                    f"{name}.{member}: ours {ours}, theirs {theirs}"
                )
    assert seen > 40, "nothing was compared"


@pytest.mark.parametrize("version", SURFACES)
def test_the_backend_names_nothing_that_this_version_lacks(version: str) -> None:
    import ast

    source = (HERE.parent / "edge_seg" / "backends" / "tensorrt.py").read_text()
    surface = SURFACES[version]["classes"]
    named = {
        ast.unparse(node)[len("trt.") :]
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute) and ast.unparse(node).startswith("trt.")
    }
    named.discard("__version__")
    assert {"Builder", "TensorIOMode.INPUT"} <= named
    for path in named:
        name, _, member = path.partition(".")
        assert surface.get(name), f"TensorRT {version} has no {name}"
        assert not member or member in surface[name], f"TensorRT {version} has no {path}"


def test_nothing_that_11_removed_is_in_use() -> None:
    source = (HERE.parent / "edge_seg" / "backends" / "tensorrt.py").read_text()
    for name, listed in SURFACES["10.3.0"]["classes"].items():
        for member in set(listed) - set(SURFACES["11.4.0"]["classes"][name]):
            assert f".{member}" not in source, f"{name}.{member} is gone in 11"
