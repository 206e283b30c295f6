"""PaddlePaddle inference models: the ONNX answers as PaddlePaddle does, and what is refused.

The networks are made here, by PaddlePaddle itself (paddle_networks.py), in the environment in
which its newer programs are converted. Slow: 200 MB are fetched where there is none yet.
"""

from __future__ import annotations

import pickle
import shutil
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from edge_seg.bundle import ModelBundle  # noqa: E402
from edge_seg.cli import main  # noqa: E402
from edge_seg.converters import environment, paddle, pdiparams  # noqa: E402
from edge_seg.converters import onnx as reader  # noqa: E402
from edge_seg.converters.head import single_logit  # noqa: E402
from edge_seg.converters.reference import Reference  # noqa: E402
from edge_seg.converters.rewrites import simplify  # noqa: E402
from edge_seg.errors import ConversionError  # noqa: E402
from edge_seg.pixels import sigmoid  # noqa: E402
from edge_seg.spec import InputSpec, OutputSpec  # noqa: E402
from tests import bright_network, toy_pictures  # noqa: E402
from tests.tiny_onnx import run  # noqa: E402

SIZE = HEIGHT, WIDTH = 48, 64
PROGRAM = {"old": "model.pdmodel", "new": "inference.json"}
FORMS = pytest.mark.parametrize("form", PROGRAM)
SCRIPT = Path(__file__).with_name("paddle_networks.py")
WHEELS = pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="paddle2onnx has wheels for Python 3.10 to 3.12"
)


def quiet(message: str, done: int, total: int) -> None:
    """Say nothing."""


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with old/NAME and new/NAME, and what PaddlePaddle answers, NAME.npy."""
    folder = tmp_path_factory.mktemp("paddle")
    python = str(environment.python(quiet, environment.PADDLE2ONNX))
    for form in PROGRAM:
        (folder / form).mkdir()
        command = [python, "-W", "ignore", str(SCRIPT), form, str(folder / form)]
        ended = environment.run(command, folder=folder, seconds=300, what="make networks")
        assert ended.returncode == 0, ended.stdout
    return folder


@pytest.fixture
def fixed(networks: Path, tmp_path: Path, form: str) -> Path:
    """A copy of one inference model's folder, to be damaged."""
    return Path(shutil.copytree(networks / form / "fixed", tmp_path / "fixed"))


def answers(networks: Path, form: str, name: str) -> tuple[NDArray[np.float32], ...]:
    """The picture, (1, 3, h, w), and what PaddlePaddle says of it."""
    folder = networks / form
    return np.load(folder / "picture.npy"), np.load(folder / f"{name}.npy")


# --- as PaddlePaddle answers ---------------------------------------------------------------------


@pytest.mark.slow
@WHEELS
@FORMS
@pytest.mark.parametrize("name", ["fixed", "open"])
def test_the_onnx_answers_as_paddle_does(
    networks: Path, tmp_path: Path, form: str, name: str
) -> None:
    """From the folder, through the reading of ONNX, to the one logit and every rewriting."""
    out = paddle.to_onnx(networks / form / name, tmp_path / "made.onnx", size=SIZE)
    picture, truth = answers(networks, form, name)
    loaded = reader.load(out, InputSpec(HEIGHT, WIDTH))
    assert np.ptp(truth[:, 1]) > 0.2  # a constant would prove nothing
    np.testing.assert_allclose(run(loaded, picture), truth, atol=1e-5)
    logit, _ = simplify(single_logit(loaded, OutputSpec("probability", 1)))
    np.testing.assert_allclose(sigmoid(run(logit, picture))[:, 0], truth[:, 1], atol=1e-5)


@pytest.mark.slow
@WHEELS
@FORMS
def test_five_classes_show_the_person_where_paddle_has_it(
    networks: Path, tmp_path: Path, form: str
) -> None:
    program = networks / form / "five" / PROGRAM[form]
    out = paddle.to_onnx(program, tmp_path / "made.onnx", size=SIZE)
    picture, truth = answers(networks, form, "five")
    labels = truth[0].argmax(axis=0)
    channel = int(np.bincount(labels.ravel(), minlength=5).argmax())
    assert 0.05 < (labels == channel).mean() < 0.95
    logit = single_logit(reader.load(out), OutputSpec("probability", channel))
    np.testing.assert_array_equal(run(logit, picture)[0, 0] > 0, labels == channel)


@pytest.mark.slow
@WHEELS
def test_the_reference_takes_it_too(networks: Path, tmp_path: Path) -> None:
    """What every artifact is held against: the ONNX, by the spec's normalisation."""
    out = paddle.to_onnx(networks / "old" / "open", tmp_path / "made.onnx", size=SIZE)
    reference = Reference(out, InputSpec(HEIGHT, WIDTH), OutputSpec("probability", 1))
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), dtype=np.uint8)
    tensor = (picture.astype(np.float32) / 127.5 - 1).transpose(2, 0, 1)[None]
    found = reference.probability(picture)
    np.testing.assert_allclose(found, run(reader.load(out), tensor)[0, 1], atol=1e-5)
    reference.close()


@pytest.mark.slow
@WHEELS
@FORMS
def test_convert_takes_a_paddle_model(
    networks: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command, from PaddlePaddle's folder to a bundle of two targets that passed."""
    pytest.importorskip("nncf", reason="the extra [convert] is not installed")
    toy_pictures.write(tmp_path / "data", train=12)
    (tmp_path / "bright.toml").write_text(bright_network.SPEC, encoding="utf-8")
    model, spec = str(networks / form / "bright"), str(tmp_path / "bright.toml")
    pictures = ["--calibration", str(tmp_path / "data/train.txt")]
    pictures += ["--labels", str(tmp_path / "data/val.txt"), "-o", str(tmp_path / "made")]
    words = ["convert", model, "--int8", "--to", "onnx,openvino", *pictures]
    assert main(words) == 2
    assert "--spec" in capsys.readouterr().err, "an open size needs one"
    assert main([*words, "--spec", spec]) == 0
    bundle = ModelBundle.load(tmp_path / "made")
    assert [a.name for a in bundle.artifacts if a.precision == "int8"] == [
        "onnx-int8",
        "openvino-int8",
    ]
    assert all(a.quality["miou"] > 0.9 for a in bundle.artifacts)
    assert bundle.source["origin"] == "PaddlePaddle model bright" and bundle.name == "bright"


@pytest.mark.slow
@WHEELS
@FORMS
def test_a_size_of_its_own_is_kept(networks: Path, tmp_path: Path, form: str) -> None:
    out = paddle.to_onnx(networks / form / "fixed", tmp_path / "made.onnx", size=(96, 128))
    with pytest.raises(ConversionError, match="spec's 96x128.*found 48x64"):
        reader.load(out, InputSpec(96, 128))


@pytest.mark.slow
@WHEELS
@FORMS
def test_an_open_size_needs_a_spec(networks: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(ConversionError, match="wanted the size of the picture.*--spec"):
        paddle.to_onnx(networks / form / "open", tmp_path / "made.onnx")
    other = paddle.to_onnx(networks / form / "open", tmp_path / "made.onnx", size=(32, 96))
    assert run(reader.load(other), np.zeros((1, 3, 32, 96), np.float32)).shape == (1, 2, 32, 96)


# --- what is refused, in words -------------------------------------------------------------------


@pytest.mark.slow
@WHEELS
@FORMS
def test_a_truncated_program_is_refused(fixed: Path, tmp_path: Path, form: str) -> None:
    program = fixed / PROGRAM[form]
    whole = program.read_bytes()
    for length in (1, len(whole) // 2, len(whole) - 1):
        program.write_bytes(whole[:length])
        with pytest.raises(ConversionError, match=f"{program.name}: wanted paddle2onnx to convert"):
            paddle.to_onnx(fixed, tmp_path / "made.onnx")
    assert not (tmp_path / "made.onnx").exists()


@pytest.mark.slow
@WHEELS
@FORMS
def test_truncated_weights_are_refused(fixed: Path, tmp_path: Path, form: str) -> None:
    """paddle2onnx fills them with whatever lies in memory."""
    params = (fixed / PROGRAM[form]).with_suffix(".pdiparams")
    whole = params.read_bytes()
    for length in (10, len(whole) // 2, len(whole) - 1):
        params.write_bytes(whole[:length])
        with pytest.raises(ConversionError, match=r"\.pdiparams: wanted the weights.*cut off"):
            paddle.to_onnx(fixed, tmp_path / "made.onnx")
    params.write_bytes(whole + whole[:50])
    with pytest.raises(ConversionError, match="cut off"):
        paddle.to_onnx(fixed, tmp_path / "made.onnx")


@pytest.mark.slow
@WHEELS
@FORMS
def test_missing_tensors_are_refused(fixed: Path, tmp_path: Path, form: str) -> None:
    """Cut off between two tensors: whole ones, but too few."""
    params = (fixed / PROGRAM[form]).with_suffix(".pdiparams")
    whole = params.read_bytes()
    count = pdiparams.check(params)
    for length in range(len(whole) - 1, 0, -1):
        params.write_bytes(whole[:length])
        try:
            assert pdiparams.check(params) == count - 1
            break
        except ConversionError:
            continue
    with pytest.raises(ConversionError):
        reader.load(paddle.to_onnx(fixed, tmp_path / "made.onnx"))


@pytest.mark.slow
@WHEELS
@FORMS
def test_an_operator_that_paddle2onnx_lacks_is_named(
    networks: Path, tmp_path: Path, form: str
) -> None:
    with pytest.raises(ConversionError, match=r"(?s)paddle2onnx.*lgamma.*export the model again"):
        paddle.to_onnx(networks / form / "strange", tmp_path / "made.onnx")


@pytest.mark.slow
@WHEELS
@FORMS
def test_a_giant_in_a_line_takes_no_memory(networks: Path, tmp_path: Path, form: str) -> None:
    with pytest.raises(ConversionError, match="needs more than 3 GB of memory"):
        paddle.to_onnx(networks / form / "giant", tmp_path / "made.onnx")


@pytest.mark.slow
@WHEELS
def test_labels_are_refused_with_the_remedy(networks: Path, tmp_path: Path) -> None:
    loaded = reader.load(paddle.to_onnx(networks / "new" / "labels", tmp_path / "made.onnx"))
    with pytest.raises(ConversionError, match="--output_op softmax"):
        single_logit(loaded, OutputSpec("probability", 0))


class Mine:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return open, (str(self.path), "w")


@pytest.mark.slow
@WHEELS
@FORMS
def test_nothing_pickled_is_loaded(fixed: Path, tmp_path: Path, form: str) -> None:
    stepped_on = tmp_path / "stepped on"
    content = pickle.dumps(Mine(stepped_on))
    stem = fixed / PROGRAM[form].partition(".")[0]
    for suffix in (".pdiparams.info", ".pdparams", ".pdopt"):
        Path(f"{stem}{suffix}").write_bytes(content)
    paddle.to_onnx(fixed, tmp_path / "made.onnx")
    for place in (f"{stem}.pdiparams", fixed / PROGRAM[form]):
        Path(place).write_bytes(content)
        with pytest.raises(ConversionError):
            paddle.to_onnx(fixed, tmp_path / "made.onnx")
    assert not stepped_on.exists()
    pickle.loads(content).close()
    assert stepped_on.exists()  # the trap was one


def write(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


@pytest.mark.parametrize(
    "names,words",
    [
        ((), "found nothing"),
        (("photo.jpg", "readme.md"), "found photo.jpg, readme.md"),
        (("model.pdmodel",), r"model.pdiparams: wanted this file of the inference model"),
        (("model.pdiparams",), "found model.pdiparams; export it"),
        (("model.pdparams", "model.pdopt"), "found weights of a training"),
        (("a.pdmodel", "a.pdiparams", "b.json", "b.pdiparams"), "found a.pdmodel, b.json"),
        (("model.pdmodel", "model.pdiparams"), "something else than a tensor|cut off"),
    ],
)
def test_a_folder_that_holds_something_else(
    tmp_path: Path, names: tuple[str, ...], words: str
) -> None:
    folder = write(tmp_path / "folder", *names)
    with pytest.raises(ConversionError, match=words):
        paddle.to_onnx(folder, tmp_path / "made.onnx")


@pytest.mark.parametrize(
    "name,words",
    [
        ("model.pdparams", "weights of a training"),
        ("model.pdiparams", "name its folder"),
        ("model.onnx", "found .onnx"),
        ("nowhere.pdmodel", "found no such file"),
    ],
)
def test_a_file_of_another_kind(tmp_path: Path, name: str, words: str) -> None:
    if not name.startswith("nowhere"):
        write(tmp_path, name)
    with pytest.raises(ConversionError, match=words):
        paddle.to_onnx(tmp_path / name, tmp_path / "made.onnx")


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "model.pdmodel")
    (folder / "model.pdiparams").symlink_to("/etc/hostname")
    with pytest.raises(ConversionError, match="model.pdiparams: wanted a file of that folder"):
        paddle.to_onnx(folder, tmp_path / "made.onnx")


def test_a_giant_file_is_refused_unread(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "model.pdmodel", "model.pdiparams")
    with open(folder / "model.pdiparams", "wb") as file:
        file.truncate(paddle.MAX_PARAMS + 1)  # sparse: takes no room on disk
    with pytest.raises(ConversionError, match="wanted 1..512 MB"):
        paddle.to_onnx(folder, tmp_path / "made.onnx")


@pytest.mark.parametrize("version", ["", "2.1.0"])
def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    folder = write(tmp_path / "folder", "model.pdmodel")
    (folder / "model.pdiparams").write_bytes(tensor((2, 2)))
    site = tmp_path / "site"
    if version:  # another paddle2onnx, as pip would lay it down
        write(site, "x"), write(site / "paddle2onnx", "__init__.py", "paddle2onnx_cpp2py_export.so")
        (site / f"paddle2onnx-{version}.dist-info").mkdir()
        text = f"Metadata-Version: 2.1\nName: paddle2onnx\nVersion: {version}\n"
        (site / f"paddle2onnx-{version}.dist-info" / "METADATA").write_text(text)
    monkeypatch.setattr(sys, "path", [str(site)])
    found = version or "none"
    with pytest.raises(
        ConversionError, match=rf'found {found}; .*pip install "edge-seg\[paddle\]"'
    ):
        paddle.to_onnx(folder, tmp_path / "made.onnx")


def test_it_is_told_from_other_sources(tmp_path: Path) -> None:
    assert paddle.is_paddle(write(tmp_path / "one", "inference.json", "inference.pdiparams"))
    assert paddle.is_paddle(tmp_path / "one" / "inference.json")
    assert paddle.is_paddle(write(tmp_path / "two", "model.pdmodel"))
    assert not paddle.is_paddle(write(tmp_path / "run", "recipe.json", "warm.safetensors"))
    assert not paddle.is_paddle(write(tmp_path / "bundle", "manifest.json", "model-int8.tflite"))
    assert not paddle.is_paddle(tmp_path / "net.onnx")


# --- the file of weights, written here by its description -----------------------------------------


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found, value = found + bytes([value & 0x7F | 0x80]), value >> 7
    return found + bytes([value])


def tensor(dims: tuple[int, ...], kind: int = 5, *, packed: bool = False) -> bytes:
    """A tensor as PaddlePaddle writes it; kind 5 is float32."""
    sizes = [varint(d % (1 << 64)) for d in dims]
    inner = b"".join(sizes)
    described = b"\x08" + varint(kind)
    described += b"\x12" + varint(len(inner)) + inner if packed else b"".join(
        b"\x10" + size for size in sizes
    )  # fmt: skip
    data = bytes(4 * int(np.prod([d for d in dims if 0 <= d < 1000])))
    return struct.pack("<IQIi", 0, 0, 0, len(described)) + described + data


def test_whole_weights_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "w.pdiparams"
    path.write_bytes(tensor((2, 3)) + tensor((300, 2), packed=True) + tensor(()))
    assert pdiparams.check(path) == 3


def test_every_cut_within_a_tensor_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "w.pdiparams"
    first, second = tensor((2, 3)), tensor((4,))
    for length in range(len(first + second)):
        path.write_bytes((first + second)[:length])
        if length == len(first):
            assert pdiparams.check(path) == 1
            continue
        with pytest.raises(ConversionError, match=r"w.pdiparams: wanted the weights"):
            pdiparams.check(path)


@pytest.mark.parametrize(
    "content",
    [
        tensor((-1, 4)),
        tensor((1 << 40, 1 << 40)),
        tensor((2, 2), kind=99),
        b"\x80\x04\x95" + bytes(60),  # a pickle's head
        struct.pack("<IQIi", 0, 1 << 60, 0, 4),
        struct.pack("<IQIi", 0, 0, 0, 1 << 30),
        struct.pack("<IQIi", 0, 0, 0, 4) + b"\xff\xff\xff\xff",
    ],
    ids=["negative", "giant", "type", "pickle", "levels", "description", "varint"],
)
def test_claims_that_are_not_true_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.pdiparams"
    path.write_bytes(content)
    with pytest.raises(ConversionError, match="copy or export the model again"):
        pdiparams.check(path)
