"""The import law and the house style, held by reading the source.

The tables below are the law. A module may import what its row names, its own package's siblings,
the standard library, and the third-party packages of its area; nothing else. Imports inside
functions and under TYPE_CHECKING count, and so do modules named in strings.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from edge_seg.cli import VERBS

ROOT = Path(__file__).parent.parent

ANYWHERE = ("arrays",)  # the names of array types, which stand in everyone's signatures

# --- the law: module -> modules of edge_seg it may import ("x.*" means everything under x) --------
RUNTIME: dict[str, tuple[str, ...]] = {
    "_version": (),
    "arrays": (),
    "errors": (),
    "ranges": ("errors",),
    "spec": ("errors", "ranges"),
    "exchange": (),
    "files": ("errors",),
    "bundle": ("errors", "spec", "files"),
    "staging": ("bundle", "errors", "exchange", "files"),
    "yuv": ("errors",),
    "formats": ("errors", "ranges", "yuv"),
    "pixels": ("errors", "formats", "spec", "yuv"),
    "guide": (),
    "timestamps": ("errors",),
    "movement": ("formats", "guide", "pixels"),
    "smoothing": ("errors", "guide", "movement", "timestamps"),
    "baselines": ("errors", "smoothing", "timestamps"),
    "board": ("errors", "spec", "bundle", "machine"),
    "cache": ("errors",),
    "backends": ("errors", "spec"),
    "backends.tensorrt": (
        *("errors", "spec", "backends", "backends.cudart", "backends.onnx_file", "cache"),
    ),
    "backends.*": ("errors", "spec", "backends", "cache"),
    "backends.tflite": ("errors", "spec", "backends", "backends.tflite_file"),
    "backends.onnxruntime": ("errors", "spec", "backends", "backends.onnx_file"),
    "counters": (),
    "exporter": ("_version", "errors", "counters", "segmenter"),
    "threads": (),
    "engine": ("errors", "spec", "bundle", "pixels", "backends", "board"),
    "calls": ("errors", "backends", "engine", "threads"),
    "watch": (),
    "choices": ("errors", "calls", "engine", "threads", "watch"),
    "supervision": (
        *("errors", "backends", "calls", "choices", "counters", "engine", "ranges", "threads"),
        *("watch",),
    ),
    "pictures": ("errors", "formats"),
    "camera": ("errors", "formats", "ranges", "camera.*"),
    "camera.*": ("errors", "files", "formats", "ranges", "pictures", "threads", "yuv"),
    "machine": (),
    "webm": (),
    "recording": ("errors", "files", "formats", "ranges", "webm"),
    "compositing": ("errors", "formats", "ranges"),
    "contours": ("errors", "formats"),
    "cadence": ("errors", "ranges"),
    "metrics": ("errors",),
    "stability": ("errors", "metrics", "stability.*"),
    "stability.*": ("errors", "metrics", "stability.*"),
    "opening": (
        *("errors", "bundle", "backends", "board", "cache", "choices", "engine", "supervision"),
    ),
    "segmenter": (
        *("errors", "bundle", "formats", "pixels", "smoothing", "backends", "board", "opening"),
        *("contours", "cadence", "choices", "counters", "engine", "supervision", "camera"),
        *("settings", "timestamps"),
    ),
    "settings": ("errors", "backends", "cadence", "ranges", "supervision"),
    "evaluation": (
        *("errors", "metrics", "segmenter"),
        *("stability", "stability.figures", "stability.motion"),
    ),
    "report": ("_version", "files", "metrics", "pictures"),
    "comparison": ("errors", "spec", "bundle", "backends", "board", "opening", "machine"),
    "preparation": ("errors", "bundle", "backends", "board", "cache", "opening"),
    "installation": ("machine",),
    "conditions": ("board", "cache", "installation", "machine"),
    "doctor": (
        *("errors", "bundle", "board", "backends", "opening", "conditions", "installation"),
    ),
    "bench": ("_version", "board", "bundle", "machine", "segmenter", "smoothing"),
    "__init__": ("_version", "errors", "spec", "bundle", "board", "segmenter", "supervision"),
    "__main__": ("cli",),
    "__pyinstaller": (),
    "__pyinstaller.*": ("backends",),
    "cli": ("_version", "errors", "cli.streams"),
    "cli.*": ("*",),
}
WORKSHOP: dict[str, tuple[str, ...]] = {
    "calibration": (
        *("errors", "spec", "files", "formats", "pixels", "pictures", "camera", "camera.disk"),
    ),
    "converters": (
        *("_version", "errors", "spec", "bundle", "staging", "files", "pixels", "metrics"),
        *("evaluation", "segmenter", "backends", "backends.*", "calibration.*", "comparison"),
        "cache",
    ),
    "training": (
        *("errors", "spec", "files", "pixels", "pictures", "metrics", "calibration.*", "machine"),
    ),
}
LAW = RUNTIME | {f"{area}{tail}": row for area, row in WORKSHOP.items() for tail in ("", ".*")}

# --- third-party packages: where each may be imported --------------------------------------------
# A board's library: only in the module named after the backend, and in the workshop where named.
THIRD_PARTY: dict[str, tuple[str, ...]] = {
    "numpy": ("*",),
    "cv2": (
        *(
            "pixels",
            "yuv",
            "smoothing",
            "baselines",
            "compositing",
            "contours",
            "guide",
            "movement",
            "cadence",
            "metrics",
            "stability.motion",
            "camera.*",
            "pictures",
            "recording",
            "watch",
        ),
        *("bench", "report", "calibration.*", "training.*"),
    ),
    "tomli": ("spec",),
    "prometheus_client": ("exporter",),
    "rich": ("cli.*",),
    "ai_edge_litert": ("backends.tflite", "converters.*"),
    "tflite_runtime": ("backends.tflite",),
    "onnxruntime": ("backends.onnxruntime", "converters.*"),
    "onnx": ("converters.*", "training.export", "training.pphumanseg"),
    "google": ("converters.*",),  # protobuf, which onnx brings
    "flatbuffers": ("converters.*",),  # which ai-edge-litert brings
    "ai_edge_quantizer": ("converters.*",),
    "openvino": ("backends.openvino",),
    "nncf": ("converters.openvino",),
    "tensorrt": ("backends.tensorrt",),
    "PyInstaller": ("__pyinstaller.*",),
    "picamera2": ("camera.picamera2",),
    "libcamera": ("camera.picamera2",),
    "gi": ("camera.gstreamer",),
    "PIL": ("calibration.*",),
    "torch": ("training.*",),
    "safetensors": ("training.*",),
    "matplotlib": ("training.*",),
}
# Modules that import by a computed name: the backends' table, and the verbs' files.
COMPUTED_IMPORTS = {"backends", "cli"}
# A verb's file may import these when it is loaded; the rest only inside its functions, so that
# `edge-seg --help` is quick and a board needs nothing of the workshop.
VERB_HEAD = {"errors", "_version", "cli"}

OUR_NAME = r"edge_seg(\.\w+)+"
FORBIDDEN_NAMES = {"utils", "util", "helpers", "helper", "manager", "base", "common", "misc"}
MAX_FUNCTION_LINES = 60
MAX_PARAMETERS = 8
MAX_POSITIONAL = 4
FOLDERS = {"edge_seg": "", "calibration": "calibration", "converters": "converters"}
FOLDERS |= {"training": "training"}


@dataclass(frozen=True)
class Module:
    """A source file and its name inside `edge_seg` ("" stands for the package itself)."""

    name: str
    path: Path
    tree: ast.Module

    def __str__(self) -> str:
        return self.name


def _modules() -> Iterator[Module]:
    for folder, prefix in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = [*filter(None, [prefix]), *path.relative_to(ROOT / folder).parts]
            parts[-1] = path.stem
            if parts[-1] == "__init__" and len(parts) > 1:
                parts.pop()
            yield Module(".".join(parts), path, ast.parse(path.read_text(encoding="utf-8")))


MODULES = list(_modules())
NAMES = {m.name for m in MODULES} | {"boards", "models"}
each_module = pytest.mark.parametrize("module", MODULES, ids=str)


def _allows(pattern: str, name: str) -> bool:
    if pattern == "*":
        return True
    if pattern.endswith(".*"):
        return name == pattern[:-2] or name.startswith(pattern[:-1])
    return name == pattern


def _row(name: str) -> tuple[str, ...] | None:
    if name in LAW:
        return LAW[name]
    return next((row for p, row in LAW.items() if p.endswith(".*") and _allows(p, name)), None)


def _imports(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield (dotted name, line) of everything imported, by statement, call or string."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import; write it out"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = full.startswith("edge_seg.") and full[len("edge_seg.") :] in NAMES
                yield (full if is_module else str(node.module)), node.lineno
        elif isinstance(node, ast.Constant) and re.fullmatch(OUR_NAME, str(node.value)):
            yield node.value, node.lineno


def _ours(imported: str) -> str | None:
    if imported == "edge_seg":
        return "__init__"
    return imported[len("edge_seg.") :] if imported.startswith("edge_seg.") else None


@each_module
def test_a_module_imports_only_what_its_row_allows(module: Module) -> None:
    row = _row(module.name)
    assert row is not None, f"{module.name} has no row in the law: add one on purpose"
    package = module.name.split(".")[0] if "." in module.name else ""
    for imported, line in _imports(module.tree):
        ours = _ours(imported)
        if ours is None or ours == module.name:
            continue
        sibling = (
            module.name.split(".")[0] in (*WORKSHOP, "cli", "camera")
            and ours.split(".")[0] == package
        )
        table = module.name == "backends" and ours.startswith("backends.")
        assert sibling or table or any(_allows(p, ours) for p in (*ANYWHERE, *row)), (
            f"{module.path.relative_to(ROOT)}:{line} imports edge_seg.{ours}; "
            f"the law lets {module.name} import only {row}"
        )


def test_the_law_lets_nobody_import_what_nobody_imports() -> None:
    for row, allowed in (RUNTIME | WORKSHOP).items():
        members = [m for m in MODULES if _row(m.name) is LAW[row]]
        used = {_ours(name) or "" for module in members for name, _ in _imports(module.tree)}
        idle = [p for p in allowed if not any(_allows(p, name) for name in used)]
        assert not idle, f"nobody in row {row} of the law imports {idle}: take it out"


def test_a_third_party_package_has_a_row_only_where_it_is_imported() -> None:
    for package, places in THIRD_PARTY.items():
        users = [
            module.name
            for module in MODULES
            if any(name.split(".")[0] == package for name, _ in _imports(module.tree))
        ]
        idle = [p for p in places if not any(_allows(p, user) for user in users)]
        assert not idle, f"nobody in {idle} imports {package}: take it out of its row"


@each_module
def test_a_third_party_package_is_imported_only_where_it_belongs(module: Module) -> None:
    for imported, line in _imports(module.tree):
        top = imported.split(".")[0]
        if top == "edge_seg" or top in sys.stdlib_module_names or top == "tomllib":
            continue
        where = f"{module.path.relative_to(ROOT)}:{line}"
        assert top in THIRD_PARTY, f"{where} imports {top}, which is in no row of THIRD_PARTY"
        assert any(_allows(p, module.name) for p in THIRD_PARTY[top]), (
            f"{where} imports {top}; only {THIRD_PARTY[top]} may"
        )


@each_module
def test_imports_by_a_computed_name_stay_where_they_are_expected(module: Module) -> None:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        called = node.func.id if isinstance(node.func, ast.Name) else called
        if called in ("import_module", "__import__", "exec_module"):
            literal = isinstance(node.args[0], ast.Constant)
            assert literal or module.name in COMPUTED_IMPORTS, (
                f"{module.path.relative_to(ROOT)}:{node.lineno} imports by a computed name"
            )
        assert called not in ("eval", "exec") or isinstance(node.func, ast.Attribute), (
            f"{module.path.relative_to(ROOT)}:{node.lineno} calls {called}()"
        )


def _head(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Yield what is imported when the module is loaded: not in functions or TYPE_CHECKING."""
    for node in tree.body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from _imports(node)


@pytest.mark.parametrize(
    "module", [m for m in MODULES if m.name == "cli" or m.name.startswith("cli.")], ids=str
)
def test_a_verb_imports_what_it_needs_inside_its_functions(module: Module) -> None:
    for imported, line in _head(module.tree):
        ours = _ours(imported)
        light = ours is not None and any(_allows(f"{h}.*", ours) for h in VERB_HEAD)
        assert light or imported.split(".")[0] in sys.stdlib_module_names, (
            f"{module.path.relative_to(ROOT)}:{line} imports {imported} at its head; "
            "move it into the function that needs it"
        )


def _loaded_by(statement: str) -> set[str]:
    """Top-level packages, not of the standard library, that a statement loads in a new Python."""
    script = (
        "import json, sys; before = set(sys.modules)\n"
        f"{statement}\n"
        "print(json.dumps(sorted({n.split('.')[0] for n in set(sys.modules) - before})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    return {n for n in loaded if n not in sys.stdlib_module_names and not n.startswith("_")}


def test_importing_the_package_loads_numpy_and_nothing_heavier() -> None:
    assert _loaded_by("import edge_seg") <= {"edge_seg", "numpy", "tomli"}


def test_the_verbs_load_no_third_party_package_until_one_runs() -> None:
    loaded = _loaded_by("from edge_seg.cli import build_parser; build_parser()")
    assert loaded <= {"edge_seg", "numpy", "tomli"}


def test_opening_a_segmenter_loads_no_library_of_another_backend(
    fake_bundle: Path, fake_board: Path
) -> None:
    loaded = _loaded_by(
        "from edge_seg import EdgeSegmenter\n"
        f"EdgeSegmenter.open({str(fake_bundle)!r}, board={str(fake_board)!r})"
    )
    assert loaded <= {"edge_seg", "numpy", "tomli", "cv2"}


@pytest.mark.parametrize("folder", [*FOLDERS, "tests", "benchmarks", "examples"])
def test_files_are_named_for_things(folder: str) -> None:
    bad = [p.name for p in (ROOT / folder).rglob("*.py") if p.stem.strip("_") in FORBIDDEN_NAMES]
    assert not bad, f"{folder}: {bad} are names of roles; name the thing"


def test_boards_hold_no_python() -> None:
    found = [str(p.relative_to(ROOT)) for p in (ROOT / "boards").rglob("*.py*")]
    assert not found, f"boards are facts, not code: {found}"


@each_module
def test_every_module_says_what_it_is(module: Module) -> None:
    text = ast.get_docstring(module.tree)
    assert text and len(text) > 10, f"{module.path.relative_to(ROOT)} has no module docstring"


@pytest.mark.parametrize("folder", WORKSHOP)
def test_a_folder_of_the_workshop_says_what_its_files_are(folder: str) -> None:
    text = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
    names = [path.stem for path in sorted((ROOT / folder).glob("*.py")) if path.stem[0] != "_"]
    missing = [name for name in names if not re.search(rf"\b{name}\b", text)]
    assert not missing, f"{folder}/__init__.py does not list {missing}"


@each_module
def test_functions_stay_short_with_few_parameters(module: Module) -> None:
    for node in ast.walk(module.tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        where = f"{module.path.relative_to(ROOT)}:{node.lineno} {node.name}"
        lines = (node.end_lineno or node.lineno) - node.lineno + 1
        assert lines <= MAX_FUNCTION_LINES, f"{where} has {lines} lines"
        positional = [a.arg for a in node.args.posonlyargs + node.args.args]
        positional = [a for a in positional if a not in ("self", "cls")]
        count = len(positional) + len(node.args.kwonlyargs)
        assert count <= MAX_PARAMETERS, f"{where} has {count} parameters"
        private = node.name.startswith("_") and node.name != "__init__"
        assert private or len(positional) <= MAX_POSITIONAL, (
            f"{where} takes {len(positional)} arguments by position; make them keyword-only"
        )


@each_module
def test_public_names_are_there_and_say_what_they_are(module: Module) -> None:
    for node in module.tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{module.path.name}: {node.name} has no docstring"


def test_every_public_name_resolves_and_every_error_is_public() -> None:
    package = import_module("edge_seg")
    errors = import_module("edge_seg.errors")
    for name in package.__all__:
        assert getattr(package, name) is not None
    assert list(package.__all__) == sorted(set(package.__all__))
    raised = {n for n, v in vars(errors).items() if isinstance(v, type)}
    assert raised <= set(package.__all__), "an error users may catch must be importable"


def test_every_verb_has_its_file_and_every_file_its_verb() -> None:
    files = {p.stem for p in (ROOT / "edge_seg" / "cli").glob("*.py")} - {"__init__"}
    verbs = {verb for verb in files if _declares_parser(ROOT / "edge_seg" / "cli" / f"{verb}.py")}
    assert set(VERBS) == verbs
    assert len(set(VERBS)) == len(VERBS)


def _declares_parser(path: Path) -> bool:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return any(isinstance(n, ast.FunctionDef) and n.name == "add_parser" for n in tree.body)


def test_the_law_itself_keeps_the_workshop_out_of_the_runtime() -> None:
    for name, row in RUNTIME.items():
        if name != "cli.*":
            assert not {p.split(".")[0] for p in row} & set(WORKSHOP), f"row {name} of the law"


def test_every_module_has_a_place_on_the_architecture_page() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([a-z0-9_./]+)`", page))
    parts = [p for p in (ROOT / "edge_seg").iterdir() if not p.name.startswith(("_", "."))]
    for part in parts:
        if part.suffix == ".py":
            assert part.stem in named, f"docs/architecture.md has no place for {part.name}"
        elif part.is_dir():
            assert f"{part.name}/" in named or f"edge_seg/{part.name}/" in named
    for name in named:  # and what it names is there
        area, _, module = name.rpartition(".")
        if area in ("calibration", "converters", "training"):
            assert (ROOT / area / f"{module}.py").is_file(), f"{name} is on the page alone"
