"""What is installed is what is in the tree, nothing is forgotten, and it works outside of it."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from edge_seg import __version__
from tests.conftest import make_fake_bundle

ROOT = Path(__file__).parent.parent
FOLDERS = ("edge_seg", "boards", "calibration", "converters", "training")
FILES = ("setup.cfg", "pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "MANIFEST.in")
# What the installed runtime is tested with, on every Python.
RUNTIME_TESTS = (
    *("test_pixels.py", "test_bundle.py", "test_spec.py", "test_segmenter.py"),
    *("test_metrics.py", "test_evaluation.py", "test_backends.py", "test_board.py"),
    *(
        "test_camera.py",
        "test_yuv.py",
        "test_live.py",
        "test_picamera2.py",
        "test_colors.py",
        "test_compositing.py",
        "test_recording.py",
        "test_smoothing.py",
    ),
    *("test_bench.py", "test_cache.py", "test_conditions.py", "test_cli.py"),
)
PYTHONS = ("3.10", "3.12", "3.13")
# import name -> distribution, where they differ
DISTRIBUTIONS = {
    "cv2": "opencv-python-headless",
    "PIL": "pillow",
    "google": "onnx",  # protobuf, which onnx brings
    "ai_edge_litert": "ai-edge-litert",
    "ai_edge_quantizer": "ai-edge-quantizer",
    "tflite_runtime": "tflite-runtime",
    "skimage": "scikit-image",
}
FORBIDDEN_IN_ALL = ("onnx2tf", "tflite-runtime", "paddle", "picamera2", "tensorrt", "pygobject")


def setup() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return parser


def lines(section: str, key: str) -> list[str]:
    return [line for line in setup()[section][key].splitlines() if line]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[\[<>=!;\s]", r, maxsplit=1)[0].lower() for r in requirements}


def extra(key: str) -> list[str]:
    return lines("options.extras_require", key)


# --- the list of packages ------------------------------------------------------------------------


def test_the_packages_listed_are_the_folders_that_hold_python() -> None:
    found = {"edge_seg.boards"}  # data only
    for folder in FOLDERS:
        for init in (ROOT / folder).rglob("*.py"):
            parts = init.parent.relative_to(ROOT).parts
            found.add(".".join(parts if folder == "edge_seg" else ("edge_seg", *parts)))
            assert (init.parent / "__init__.py").is_file(), f"{init.parent} has no __init__.py"
    assert set(lines("options", "packages")) == found
    mapped = dict(line.replace(" ", "").split("=") for line in lines("options", "package_dir"))
    assert mapped == {f"edge_seg.{f}": f for f in FOLDERS if f != "edge_seg"}


def test_a_board_needs_four_libraries() -> None:
    required = names(lines("options", "install_requires"))
    assert required == {
        *("numpy", "opencv-python-headless", "ai-edge-litert", "tflite-runtime", "rich"),
        "tomli",
    }
    tomli = next(r for r in lines("options", "install_requires") if r.startswith("tomli"))
    assert 'python_version < "3.11"' in tomli


def test_all_is_the_four_and_holds_nothing_that_clashes() -> None:
    wanted = ["openvino", "onnxruntime", "convert", "train"]
    assert extra("all") == [f"edge-seg[{name}]" for name in wanted]
    everything = set().union(*(names(extra(name)) for name in wanted))
    assert not [n for n in everything if n.startswith(FORBIDDEN_IN_ALL)]
    assert "torch==2.13.0" in extra("train")


def imported_by(folder: str) -> set[str]:
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    here = {p.stem for p in (ROOT / folder).glob("*.py")}
    ours = {"edge_seg", "tests", *here}
    found -= ours | {n for n in found if n in sys.stdlib_module_names}
    return {DISTRIBUTIONS.get(n, n) for n in found}


@pytest.mark.parametrize(
    "folder,extras",
    [
        ("edge_seg", ["onnxruntime", "openvino", "metrics"]),
        ("calibration", ["convert"]),
        ("converters", ["convert", "openvino"]),
        ("training", ["train"]),
        ("benchmarks", ["convert", "train", "demo"]),
        ("examples", ["convert", "demo"]),
        ("tests", ["all", "convert", "train", "openvino", "demo", "dev", "metrics"]),
    ],
)
def test_what_is_imported_is_declared(folder: str, extras: list[str]) -> None:
    declared = names(lines("options", "install_requires")) | {"tomllib", "pil"}
    for name in extras:
        declared |= names(extra(name))
    # flatbuffers comes with the TFLite library; what writes models uses it.
    declared |= {"flatbuffers"} if folder in ("tests", "converters", "benchmarks") else set()
    # It comes with JetPack, and the tests put a stand-in in its place.
    declared |= {"tensorrt"} if folder in ("edge_seg", "tests") else set()
    # It is what imports its hook.
    declared |= {"pyinstaller"} if folder == "edge_seg" else set()
    # What imports PaddlePaddle is run in an environment of the converters' making.
    declared |= {"paddle"} if folder == "tests" else set()
    # So is what one benchmark compares us with.
    declared |= {"mediapipe"} if folder == "benchmarks" else set()
    # What comes with the system and not from PyPI: Debian's python3-picamera2 and python3-gi.
    declared |= {"picamera2", "libcamera", "gi"} if folder in ("edge_seg", "tests") else set()
    declared |= {"pykms"} if folder == "tests" else set()
    # The benchmarks' own files, which are tested too.
    declared |= {p.stem for p in (ROOT / "benchmarks").glob("*.py")} if folder == "tests" else set()
    assert {n.lower() for n in imported_by(folder)} <= declared


# --- the files a reader and a machine start from -------------------------------------------------


def test_the_readme_s_commands_are_the_makefile_s_and_ci_s() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z0-9-]+):", makefile, re.MULTILINE))
    assert {"demo", "test", "check", "bench", "clean"} <= targets
    named = set(re.findall(r"\bmake ([a-z0-9-]+)", readme))
    assert "test" in named and "demo" in named
    assert named <= targets
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert set(re.findall(r"^lane make ([a-z0-9-]+)", ci, re.MULTILINE)) <= targets
    assert "lane make test\n" in ci
    assert os.access(ROOT / ".ci" / "run", os.X_OK) and os.access(ROOT / ".ci" / "types", os.X_OK)


def test_the_build_system_is_three_lines_and_the_version_is_in_the_changelog() -> None:
    lines_of = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    assert [line.split(" ")[0] for line in lines_of] == [
        "[build-system]",
        "requires",
        "build-backend",
    ]
    assert __version__ in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")


def test_demo_says_so_where_no_default_network_ships(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    done = subprocess.run(["make", "demo"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "no default network ships" in done.stdout
    assert not (tmp_path / ".venv").exists()


def test_the_network_is_taught_and_trained_by_one_rule_of_scenes() -> None:
    said = subprocess.run(
        ["make", "--dry-run", "network", "SCENES=pp-humanseg14k"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    lines = said.stdout.replace("\\\n", " ").splitlines()
    reading = [n for n in lines if "edge_seg teach" in n or "edge_seg train" in n]
    assert ["edge_seg teach" in line for line in reading] == [True, False, False, False], (
        said.stderr
    )
    assert all("--scenes pp-humanseg14k" in line for line in reading)


# --- wheels --------------------------------------------------------------------------------------


def copy_tree(target: Path) -> Path:
    """Copy what a wheel is made of: building in the tree would leave a build/ that goes stale."""
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.pyc")
    target.mkdir(parents=True)
    for folder in FOLDERS:
        shutil.copytree(ROOT / folder, target / folder, ignore=ignored)
    for file in FILES:
        shutil.copy(ROOT / file, target)
    return target


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command without the tree on its path; return what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "COV_"))}
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        env={**clean, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, f"{command} exited {done.returncode}:\n{done.stdout[-4000:]}"
    return done.stdout


def build(kind: str, source: Path, out: Path) -> Path:
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "-o", out, source, cwd=out)
    return next(out.glob("*.whl" if kind == "wheel" else "*.tar.gz"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of the tree as it is."""
    pytest.importorskip("build", reason="the extra [dev] is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    return build("wheel", copy_tree(folder / "source"), folder)


def contents(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as file:
        return {n: file.read(n) for n in file.namelist() if "dist-info" not in n}


def expected_files() -> set[str]:
    found = set()
    for folder in FOLDERS:
        prefix = "" if folder == "edge_seg" else "edge_seg/"
        for path in (ROOT / folder).rglob("*"):
            inside = path.relative_to(ROOT)
            if path.suffix == ".py" or path.name == "py.typed":
                found.add(f"{prefix}{inside}")
            elif folder == "boards" and path.suffix in (".toml", ".md", ".json"):
                found.add(f"{prefix}{inside}")
            elif folder == "edge_seg" and inside.parts[1] == "models" and path.is_file():
                found.add(str(inside))
    return found


@pytest.mark.slow
def test_the_wheel_holds_every_file_and_nothing_else(wheel: Path) -> None:
    assert set(contents(wheel)) == expected_files()
    assert "edge_seg/boards/raspberry-pi-5/board.toml" in contents(wheel)


@pytest.mark.slow
def test_the_sdist_builds_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "source")
    (source / "tests").mkdir()
    shutil.copy(__file__, source / "tests")  # what setuptools would take along of its own
    archive = build("sdist", source, tmp_path)
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "unpacked", filter="data")
    unpacked = next((tmp_path / "unpacked").iterdir())
    assert (unpacked / "CHANGELOG.md").is_file()
    assert not (unpacked / "tests").exists(), "a part of the tests, which cannot run alone"
    (tmp_path / "again").mkdir()
    again = build("wheel", unpacked, tmp_path / "again")
    assert again.name == wheel.name
    assert contents(again) == contents(wheel)


def fresh_environment(folder: Path, python: str) -> Path:
    """Make a virtual environment; return its bin folder."""
    run(python, "-m", "venv", folder, cwd=folder.parent)
    return folder / "bin"


SEGMENT = """\
import sys, numpy as np, edge_seg
from edge_seg import EdgeSegmenter
assert "site-packages" in edge_seg.__file__, edge_seg.__file__
frame = np.zeros((48, 64, 3), np.uint8)
frame[:, 32:] = 255
with EdgeSegmenter.open("bundle", board="board.toml") as segmenter:
    mask = segmenter.segment(frame)
print("mask", mask.shape, mask[:, :24].max() < 0.1, mask[:, 40:].min() > 0.9)
"""


@pytest.mark.slow
def test_the_wheel_works_in_a_fresh_environment_outside_the_tree(
    wheel: Path, tmp_path: Path, fake_board: Path
) -> None:
    bin = fresh_environment(tmp_path / "env", sys.executable)
    run(bin / "pip", "install", "-q", wheel, cwd=tmp_path)
    run(bin / "pip", "check", cwd=tmp_path)
    assert run(bin / "edge-seg", "--version", cwd=tmp_path) == f"edge-seg {__version__}\n"
    assert run(bin / "python", "-m", "edge_seg", "--version", cwd=tmp_path).startswith("edge-seg")
    listed = run(bin / "edge-seg", "boards", cwd=tmp_path)
    for board in ("raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano", "intel-npu", "generic"):
        assert board in listed
    (tmp_path / "bundle").mkdir()
    make_fake_bundle(tmp_path / "bundle")
    shutil.copy(fake_board, tmp_path / "board.toml")
    assert "mask (48, 64) True True" in run(bin / "python", "-c", SEGMENT, cwd=tmp_path)
    run(bin / "edge-seg", "verify", "bundle", cwd=tmp_path)


FROZEN = """\
import numpy as np
from edge_seg import EdgeSegmenter, ModelBundle
from edge_seg.board import boards, load
from edge_seg.doctor import diagnose
with EdgeSegmenter.open(board="generic") as segmenter:
    mask = segmenter.segment(np.full((48, 64, 3), 90, np.uint8))
print("mask", mask.shape, segmenter.runtime, segmenter.degraded, end=" ")
found = diagnose(load("generic"), ModelBundle.load())
print(*(b.name for b in boards()), *((f.runtime.backend, f.opens) for f in found.findings), end=" ")
print(*((c.subject, c.state) for c in found.conditions))
"""


@pytest.mark.slow
def test_a_program_frozen_by_pyinstaller_finds_what_it_found_before(
    wheel: Path, tmp_path: Path
) -> None:
    """The network, the boards, OpenVINO's plugins; and `doctor` sees the libraries it runs on."""
    bin = fresh_environment(tmp_path / "env", sys.executable)
    run(bin / "pip", "install", "-q", f"{wheel}[openvino]", "pyinstaller", cwd=tmp_path)
    (tmp_path / "kiosk.py").write_text(FROZEN, encoding="utf-8")
    before = run(bin / "python", "kiosk.py", cwd=tmp_path).splitlines()[-1]
    assert "('tflite', True)" in before and "('openvino', True)" in before
    run(bin / "pyinstaller", "kiosk.py", cwd=tmp_path)
    frozen = tmp_path / "dist" / "kiosk" / "kiosk"
    assert run(frozen, cwd=tmp_path).splitlines()[-1] == before


# --- other Pythons -------------------------------------------------------------------------------


def interpreter(version: str) -> str:
    """Return a Python of that version that really starts; skip saying where it was sought."""
    kept = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    found = [
        shutil.which(f"python{version}"),
        *sorted(map(str, kept.glob(f"{version}.*/bin/python"))),
    ]
    for candidate in filter(None, found):
        said = subprocess.run(
            [candidate, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
        )
        if said.stdout.strip() == version:
            return str(candidate)
    pytest.skip(f"no python{version} on PATH or under {kept}")


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_installed_runtime_passes_its_tests_on(
    wheel: Path, tmp_path: Path, version: str
) -> None:
    bin = fresh_environment(tmp_path / "env", interpreter(version))
    run(bin / "pip", "install", "-q", wheel, "pytest", "hypothesis", "scipy", cwd=tmp_path)
    run(bin / "pip", "check", cwd=tmp_path)
    # Outside the tree, so that the installed package is what is imported.
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tests", tmp_path / "here" / "tests", ignore=ignored)
    tests = [f"tests/{name}" for name in RUNTIME_TESTS if (ROOT / "tests" / name).is_file()]
    options = ("-q", "-m", "not slow", "-p", "no:cacheprovider", "-o", "markers=slow: slow")
    said = run(
        *(bin / "python", "-m", "pytest", *options, *tests),
        cwd=tmp_path / "here",
        EDGE_SEG_REQUIRE_DATA="0",
        EDGE_SEG_DATA=os.environ.get("EDGE_SEG_DATA", str(ROOT.parent / "shared")),
    )
    passed = re.search(r"(\d+) passed", said)
    assert passed and int(passed.group(1)) > 400, said[-2000:]
