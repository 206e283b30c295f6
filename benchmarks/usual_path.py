"""What the usual way to int8 TFLite makes of a network: onnx2tf, ai-edge-quantizer, nothing else.

    python benchmarks/usual_path.py MODEL.onnx --calibration train.txt --labels val.txt

onnx2tf's float file as it comes, quantized by the quantizer's own static int8 recipe and
calibrator, on the pictures that `edge-seg convert` would pick; nothing rewritten, no gate. Both
files are judged as `edge-seg eval --edges off` does, to be held against what `convert` makes.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from tables import show

from edge_seg.bundle import ModelBundle, describe
from edge_seg.calibration.dataset import labelled_pairs, pairs_of
from edge_seg.calibration.frames import CalibrationSet, gather
from edge_seg.cli.figures import FIGURES
from edge_seg.converters import environment, onnx, tflite
from edge_seg.converters.family import known_spec
from edge_seg.converters.targets import float_tensors
from edge_seg.converters.words import first_lines, silence
from edge_seg.errors import ConversionError
from edge_seg.evaluation import evaluate
from edge_seg.segmenter import open_artifact
from edge_seg.spec import InputSpec, load_spec


def to_float(model: Path, folder: Path) -> Path:
    """Return the float32 TFLite that onnx2tf makes of a file as it is, in `folder`."""
    interpreter = environment.python(tflite.quiet, environment.ONNX2TF)
    try:
        return tflite.onnx2tf(Path(shutil.copy(model, folder / "model.onnx")), interpreter)
    except ConversionError as error:
        raise SystemExit(str(error)) from error


def quantized(source: Path, calibration: CalibrationSet, spec: InputSpec) -> Path:
    """Return the int8 TFLite by the quantizer's own recipe, beside the float one."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer, recipe

    key, ends = next(iter(Interpreter(model_path=str(source)).get_signature_list().items()))
    samples = [{ends["inputs"][0]: x} for x in float_tensors(calibration, spec, "nhwc")]
    out = source.with_name("model_int8.tflite")
    with silence():
        worker = quantizer.Quantizer(str(source), recipe.static_wi8_ai8())
        worker.quantize(worker.calibrate({key: samples})).export_model(str(out))
    return out


def main() -> None:
    """Convert, judge, print one line per file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--calibration", type=Path, required=True)
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--spec", type=Path, help="contract of a network that is not known")
    args = parser.parse_args()
    read = load_spec(args.spec) if args.spec else known_spec(onnx.load(args.model))
    seen = gather(args.calibration, read[0], judged=pairs_of(args.labels))
    with tempfile.TemporaryDirectory() as name:
        folder, rows = Path(name), []
        files = {"fp32": to_float(args.model, folder)}
        try:
            files["int8"] = quantized(files["fp32"], seen, read[0])
        except Exception as error:  # the quantizer raises whatever its parts raise
            rows.append(["int8", f"cannot be quantized: {first_lines(error)}"])
        for precision, path in reversed(files.items()):
            artifact = describe(path, format="tflite", precision=precision)
            bundle = ModelBundle(path.parent, args.model.stem, *read, (artifact,))
            with open_artifact(bundle, artifact, threads=2) as segmenter:
                found = evaluate(segmenter, labelled_pairs(args.labels)).to_dict()
            rows.insert(0, [precision, *(f"{100 * found[figure]:.2f}" for figure in FIGURES)])
    show(f"{args.model.name}, {args.labels}, percent", ("file", *FIGURES.values()), rows)


if __name__ == "__main__":
    main()
