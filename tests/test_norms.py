"""What of a normalisation stays in float: hand-made files, of operators as onnx2tf writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
import flatbuffers  # noqa: E402

from edge_seg.converters.norms import normalised  # noqa: E402

FULL, ROW, PIXEL = (1, 12, 16, 8), (1, 1, 1, 8), (1, 12, 16, 1)
Made = tuple[str, str, str, tuple[int, ...]]  # output, operator, inputs, shape

BEFORE: list[Made] = [("x", "CONV_2D", "picture filter", FULL)]
BEHIND: list[Made] = [("answer", "CONV_2D", "y filter", PIXEL)]
VARIANCE: list[Made] = [
    ("mean", "MEAN", "x axes", ROW),
    ("away", "SUB", "x mean", FULL),
    ("squared", "MUL", "away away", FULL),
    ("variance", "MEAN", "squared axes", ROW),
    ("raised", "ADD", "variance epsilon", ROW),
    ("deviation", "SQRT", "raised", ROW),
]
FORMS: dict[str, list[Made]] = {  # all of it stays in float
    "instance": [
        *VARIANCE,
        ("inverse", "DIV", "one deviation", ROW),
        ("even", "MUL", "away inverse", FULL),
        ("scaled", "MUL", "even scale", FULL),
        ("y", "ADD", "scaled shift", FULL),
    ],
    "group": [
        *VARIANCE,
        ("even", "DIV", "away deviation", FULL),
        ("whole", "RESHAPE", "even shape", FULL),
        ("scaled", "MUL", "whole scale", FULL),
        ("y", "SUB", "scaled shift", FULL),
    ],
    "layer, its variance clamped": [
        *VARIANCE[:4],
        ("raised", "MAXIMUM", "variance epsilon", ROW),
        *VARIANCE[5:],
        ("y", "DIV", "away deviation", FULL),
    ],
    "layer, its variance squeezed": [
        *VARIANCE[:4],
        ("open", "RESHAPE", "variance shape", ROW),
        ("raised", "ADD", "open epsilon", ROW),
        *VARIANCE[5:],
        ("y", "DIV", "away deviation", FULL),
    ],
    "by its length": [
        ("squared", "MUL", "x x", FULL),
        ("sum", "SUM", "squared axes", PIXEL),
        ("length", "SQRT", "sum", PIXEL),
        ("raised", "ADD", "length epsilon", PIXEL),
        ("y", "DIV", "x raised", FULL),
    ],
}


def saved(path: Path, operators: list[Made]) -> Path:
    graph, kinds = schema.SubGraphT(), sorted({kind for _, kind, _, _ in operators})
    shapes = {name: shape for name, _, _, shape in operators}
    given = dict.fromkeys(n for _, _, inputs, _ in operators for n in inputs.split())
    names = [*(n for n in given if n not in shapes), *shapes]
    graph.tensors, graph.operators = [], []
    for name in names:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.buffer = name, list(shapes.get(name, (1,))), 0
        graph.tensors.append(tensor)
    for name, kind, inputs, _ in operators:
        operator = schema.OperatorT()
        operator.opcodeIndex, operator.outputs = kinds.index(kind), [names.index(name)]
        operator.inputs = [names.index(n) for n in inputs.split()]
        graph.operators.append(operator)
    graph.inputs, graph.outputs = [names.index("picture")], [len(names) - 1]
    model = schema.ModelT()
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    model.operatorCodes = []
    for kind in kinds:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = vars(schema.BuiltinOperator)[kind]
        model.operatorCodes.append(code)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.mark.parametrize("form", FORMS)
def test_all_of_a_normalisation_stays_in_float_and_nothing_else(tmp_path: Path, form: str) -> None:
    found = normalised(saved(tmp_path / "f.tflite", [*BEFORE, *FORMS[form], *BEHIND]))
    assert sorted(found) == sorted(name for name, *_ in FORMS[form])


def test_what_is_added_to_it_and_comes_before_it_is_left_in_integers(tmp_path: Path) -> None:
    """A branch around it, and a sum of two layers whose squares are averaged."""
    around: list[Made] = [*FORMS["instance"][:-1], ("y", "ADD", "scaled x", FULL)]
    found = normalised(saved(tmp_path / "around.tflite", [*BEFORE, *around, *BEHIND]))
    assert "scaled" in found and "y" not in found
    inner: list[Made] = [
        ("u", "CONV_2D", "picture filter", FULL),
        ("v", "CONV_2D", "picture filter", FULL),
        ("x", "ADD", "u v", FULL),
        ("squared", "MUL", "x x", FULL),
        ("variance", "MEAN", "squared axes", ROW),
        ("deviation", "SQRT", "variance", ROW),
        ("y", "DIV", "x deviation", FULL),
    ]
    found = normalised(saved(tmp_path / "inner.tflite", [*inner, *BEHIND]))
    assert sorted(found) == ["deviation", "squared", "variance", "y"]


def test_a_root_that_takes_no_mean_is_left_in_integers(tmp_path: Path) -> None:
    length: list[Made] = [
        ("squared", "MUL", "x x", FULL),
        ("raised", "ADD", "squared one", FULL),
        ("root", "SQRT", "raised", FULL),
        ("y", "MUL", "root scale", FULL),
    ]
    assert normalised(saved(tmp_path / "f.tflite", [*BEFORE, *length, *BEHIND])) == []
