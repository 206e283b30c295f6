"""PaddlePaddle inference models, made into ONNX by paddle2onnx.

    X.pdmodel + X.pdiparams    paddle2onnx 1.3 (the extra [paddle]), without PaddlePaddle
    X.json + X.pdiparams       PaddlePaddle 3's programs: paddle2onnx 2.1 with PaddlePaddle 3.3, in
                               an environment of their own (environment.py)

Either runs in a process of its own, with bounded memory, on copies of those two files: nothing
else of the folder is read, no network is run, and nothing pickled (.pdparams, .pdiparams.info) is
ever loaded. What the network wants of a picture is not in these files: it needs a spec.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto

from edge_seg.backends import Progress
from edge_seg.converters import environment, pdiparams
from edge_seg.converters.words import last_lines
from edge_seg.errors import ConversionError
from edge_seg.files import whole_file, writing

PROGRAMS = (".pdmodel", ".json")  # where both are, the first: it needs no PaddlePaddle
PARAMS = ".pdiparams"
TRAINING = (".pdparams", ".pdopt")
MAX_PROGRAM = 64 << 20  # bytes of a program, which holds no weights
MAX_PARAMS = 512 << 20  # bytes, as of an ONNX file
MEMORY = 3 << 30  # bytes of address space; a small network needs less than 1 GB
SECONDS = 300
OPSET = 17
EXTRA = "1.3."  # of paddle2onnx: later ones link against PaddlePaddle

OWN_WORDS = re.compile(r"(\[(Paddle2ONNX|ERROR)\])+ *\w|(?!Fatal)\w+Error: ")

# argv: program, weights, the file to write, and for 1.3 its compiled module, which is loaded by
# its path because the package around it imports PaddlePaddle, for nothing that is used here.
SCRIPT = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({MEMORY}, {MEMORY}))
program, params, out, *module = sys.argv[1:]
if module:
    from importlib.util import module_from_spec, spec_from_file_location
    spec = spec_from_file_location("paddle2onnx.paddle2onnx_cpp2py_export", module[0])
    paddle2onnx = module_from_spec(spec)
    spec.loader.exec_module(paddle2onnx)
else:
    import paddle2onnx.paddle2onnx_cpp2py_export as paddle2onnx
flags = dict(auto_upgrade=True, verbose=False, checker=True, experimental=True, optimize=True)
made = paddle2onnx.export(
    program, params, {OPSET}, *flags.values(), {{}}, "onnxruntime", "", "", False
)
with open(out, "wb") as file:
    file.write(made)
"""


def is_paddle(path: Path) -> bool:
    """Tell, by suffix or by a folder's files, whether this is meant as a PaddlePaddle model."""
    if path.is_dir():
        return any(p.suffix in (".pdmodel", PARAMS, *TRAINING) for p in path.iterdir())
    return path.suffix in (*PROGRAMS, PARAMS, *TRAINING)


def to_onnx(
    source: Path,
    out: Path,
    *,
    size: tuple[int, int] | None = None,
    progress: Progress = lambda message, done, total: None,
) -> Path:
    """Write a PaddlePaddle inference model as ONNX, opset 17, static shapes; return `out`.

    source: its folder, or its .pdmodel or .json. size: (height, width) of the input, for a model
    that was exported without (PaddleSeg's -1): a spec says it; one that has a size keeps it.
    Raises ConversionError: files missing, damaged or of another kind, operators that paddle2onnx
    does not know, what to install; OutputError (a full disk).
    """
    program, params = _files(source)
    pdiparams.check(params)
    with tempfile.TemporaryDirectory(prefix="edge-seg-") as name:
        folder = Path(name)
        model = _converted(program, params, folder, progress)
        _settle_input(model, program, size)
        with writing(out, "to write the network there", "free space"), whole_file(out) as beside:
            beside.write_bytes(model.SerializeToString())
    return out


def _files(source: Path) -> tuple[Path, Path]:
    """Return the program and its weights. Raises ConversionError for anything else."""
    if not source.exists():
        raise ConversionError(
            f"{source}: wanted a PaddlePaddle inference model, found no such file or folder; "
            "check the path"
        )
    if source.is_dir():
        program = _program_in(source)
    elif source.suffix in PROGRAMS:
        program = source
    elif source.suffix in TRAINING:
        raise _training(source)
    else:
        raise ConversionError(
            f"{source}: wanted a folder, a .pdmodel or a .json of a PaddlePaddle inference model, "
            f"found {source.suffix or 'a file without a suffix'}; name its folder"
        )
    params = program.with_suffix(PARAMS)
    for path, most in ((program, MAX_PROGRAM), (params, MAX_PARAMS)):
        _check_file(path, most)
    return program, params


def _program_in(folder: Path) -> Path:
    """Return the program of the one inference model in a folder."""
    inside = sorted(folder.iterdir())
    weights = [p.stem for p in inside if p.suffix == PARAMS]
    programs = [
        folder / f"{stem}{suffix}"
        for suffix in PROGRAMS
        for stem in weights
        if (folder / f"{stem}{suffix}").exists()
    ]
    if len({p.stem for p in programs}) > 1:
        raise ConversionError(
            f"{folder}: wanted one inference model, found {', '.join(p.name for p in programs)}; "
            "name one of these files"
        )
    if programs:
        return programs[0]
    alone = [p for p in inside if p.suffix == ".pdmodel"]
    if alone:  # its weights are missing, which _check_file says
        return alone[0]
    if not weights and any(p.suffix in TRAINING for p in inside):
        raise _training(folder)
    names = ", ".join(p.name for p in inside[:8]) or "nothing"
    raise ConversionError(
        f"{folder}: wanted a PaddlePaddle inference model (X.pdmodel or X.json beside "
        f"X.pdiparams), found {names}; export it with paddle.jit.save or PaddleSeg's export.py"
    )


def _training(path: Path) -> ConversionError:
    return ConversionError(
        f"{path}: wanted an inference model, found weights of a training (.pdparams: pickled, so "
        "they are not opened); export the model with PaddleSeg's export.py or paddle.jit.save"
    )


def _check_file(path: Path, most: int) -> None:
    """Refuse what is missing, a link out of its folder, no plain file, empty, or a giant."""
    if not path.is_file():
        raise ConversionError(
            f"{path}: wanted this file of the inference model, found none; an inference model is "
            "a program (.pdmodel or .json) and its weights (.pdiparams), of one name, in one folder"
        )
    if not path.resolve().is_relative_to(path.parent.resolve()):
        raise ConversionError(
            f"{path}: wanted a file of that folder, found a link to {path.resolve()}; copy the "
            "file itself into the folder"
        )
    size = path.stat().st_size
    if not 0 < size <= most:
        raise ConversionError(
            f"{path}: wanted 1..{most >> 20} MB, found {size} bytes; networks for small boards "
            "are far below that"
        )


def _converted(program: Path, params: Path, folder: Path, progress: Progress) -> ModelProto:
    """Run paddle2onnx in `folder`; return what it made."""
    interpreter, module = _tool(program, progress)
    progress("converting from PaddlePaddle", 0, 0)
    files = [f"model{program.suffix}", f"model{PARAMS}", "made.onnx"]
    for path, name in zip((program, params), files, strict=False):
        shutil.copyfile(path, folder / name)
    ended = environment.run(
        [interpreter, "-W", "ignore", "-c", SCRIPT, *files, *module],
        folder=folder,
        seconds=SECONDS,
        what="run paddle2onnx",
    )
    made = folder / files[-1]
    try:
        if ended.returncode == 0 and made.is_file() and made.stat().st_size:
            return onnx.load_model(made, load_external_data=False)
    except DecodeError:
        pass
    raise ConversionError(
        f"{program}: wanted paddle2onnx to convert it, found that it failed:\n"
        f"{_said(ended.stdout, program) or f'  exit status {ended.returncode}'}\n"
        "export the model again (PaddleSeg: export.py), with operators that paddle2onnx knows"
    )


def _said(output: str, program: Path) -> str:
    """Return paddle2onnx's own words: without a crash's stack, and with the operators' names."""
    own = [line for line in output.splitlines() if OWN_WORDS.match(line)]
    words = last_lines("\n".join(own or output.splitlines()))
    if "MemoryError" in words:
        return f"  it needs more than {MEMORY >> 30} GB of memory"
    if program.suffix == ".json" and "unsupported operators" in words:  # 2.1 leaves out which
        try:
            names = sorted(set(_operators(json.loads(program.read_bytes()))))
        except (ValueError, RecursionError, OSError):
            return words
        words += f"\n  its operators: {', '.join(names)[:600]}"
    return words


def _operators(program: object) -> Iterator[str]:
    """Yield the operators of a PIR program: objects with a name under "#" and outputs."""
    inside: list[object] = []
    if isinstance(program, dict):
        name = program.get("#")
        if isinstance(name, str) and "O" in program and "." in name:
            yield name.partition(".")[2]
        inside = list(program.values())
    elif isinstance(program, list):
        inside = program
    for one in inside:
        yield from _operators(one)


def _tool(program: Path, progress: Progress) -> tuple[str, list[str]]:
    """Return the Python that runs paddle2onnx, and the compiled module it is to load, if any."""
    if program.suffix == ".pdmodel":
        return sys.executable, [str(_extra())]
    if sys.version_info >= (3, 13):
        raise ConversionError(
            f"{program}: wanted Python 3.10 to 3.12 for a program of PaddlePaddle 3, found "
            f"{sys.version_info.major}.{sys.version_info.minor}, which paddle2onnx has no wheel "
            "for; use an older Python, or export the model as .pdmodel "
            "(paddle.pir_utils.DygraphOldIrGuard)"
        )
    return str(environment.python(progress, environment.PADDLE2ONNX)), []


def _extra() -> Path:
    """Return the compiled module of paddle2onnx 1.3, found without importing anything of it."""
    found = importlib.util.find_spec("paddle2onnx")
    folders = list(found.submodule_search_locations or ()) if found is not None else []
    modules = [m for f in folders for m in Path(f).glob("paddle2onnx_cpp2py_export*.so")]
    version = metadata.version("paddle2onnx") if modules else "none"
    if not version.startswith(EXTRA):
        raise ConversionError(
            f"wanted paddle2onnx {EXTRA}x to read a .pdmodel, found {version}; install it with: "
            'pip install "edge-seg[paddle]" (Python 3.10 to 3.12)'
        )
    return modules[0]


def _settle_input(model: ModelProto, program: Path, size: tuple[int, int] | None) -> None:
    """Give a picture of no fixed size the spec's; what was inferred without it is dropped.

    Anything else than one picture is left for converters.onnx to refuse.
    """
    if len(model.graph.input) != 1:
        return
    dims = model.graph.input[0].type.tensor_type.shape.dim
    if len(dims) != 4:
        return
    # Only what is open is set: a size that was exported stays, to be held against the spec's.
    for dim, value in zip(dims, (1, None, *(size or (None, None))), strict=True):
        if dim.dim_value > 0 or value is None:
            continue
        dim.Clear()
        dim.dim_value = value
    if any(d.dim_value <= 0 for d in list(dims)[2:]):
        raise ConversionError(
            f"{program}: wanted the size of the picture, found a model exported without one "
            "(-1); say height and width in a file and pass --spec FILE.toml"
        )
    del model.graph.value_info[:]
    for output in model.graph.output:
        for dim in output.type.tensor_type.shape.dim:
            dim.Clear()
