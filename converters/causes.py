"""Why a network collapsed: the likely cause, each one checked before it is named.

    normalisation    it does see people when its pixels are scaled otherwise, or its int8 input
                     counts in steps far from a pixel's
    colour order     it does see people with red and blue swapped
    saturated input  its int8 input holds only a part of a pixel's range
    dead layer       from a layer on, nothing depends on the picture any more; or a bias overflowed

`causes` returns [] where none of these holds: then nothing is named.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from edge_seg import pixels
from edge_seg.arrays import Labelled
from edge_seg.backends import open_backend, readers
from edge_seg.bundle import Artifact, ModelBundle
from edge_seg.converters import guards, layers
from edge_seg.converters.gate import Exam
from edge_seg.evaluation import evaluate
from edge_seg.metrics import collapse
from edge_seg.pixels import Codec
from edge_seg.segmenter import open_artifact
from edge_seg.spec import InputSpec, TensorSpec

PICTURES = 24  # labelled ones that other contracts are tried on
PROBES = 6  # pictures that a layer must tell apart
MUCH = 0.2  # of mIoU: what another contract must gain to be called the cause
ONE_CHANGE = 0.05  # of mIoU: what changing colour and scale together must gain over one of them
COARSE = 3.0  # times a pixel's step: an input that counts so cannot have seen the same pixels
CLIPPED = 0.1  # of the levels
RAW = (200, 256)  # where a range that was calibrated on raw pixels ends
# How networks are fed in practice, as mean and std of InputSpec (pixels of 0..1).
SCALES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "-1..1": ((0.5,) * 3, (0.5,) * 3),
    "0..1": ((0.0,) * 3, (1.0,) * 3),
    "ImageNet's mean and std": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "raw 0..255": ((0.0,) * 3, (1 / 255,) * 3),
    "0..255 less ImageNet's mean": ((0.485, 0.456, 0.406), (1 / 255,) * 3),
}


@dataclass(frozen=True)
class Suspect:
    """An artifact that collapsed. sound: the float one it was made from, None where it is that
    one itself. exam: what it was measured on.
    """

    bundle: ModelBundle
    artifact: Artifact
    sound: Artifact | None
    exam: Exam


def causes(suspect: Suspect) -> list[str]:
    """Return the causes that were found, one sentence each, the likeliest first."""
    shown = _shown(suspect)
    found = [_input_codes(suspect), _other_contract(suspect, shown), _dead_layer(suspect, shown)]
    return [sentence for sentence in found if sentence]


def other_contract(suspect: Suspect) -> str:
    """Return the scale or colour order under which it reaches MUCH more mIoU, in words, or ""."""
    return _other_contract(suspect, _shown(suspect))


def _shown(suspect: Suspect) -> list[Labelled]:
    return list(islice(_with_people(suspect.exam), PICTURES))


def _with_people(exam: Exam) -> Iterator[Labelled]:
    return (pair for pair in exam.pairs() if (pair[1] == 1).any())


# --- the contract ---------------------------------------------------------------------------------


def _other_contract(suspect: Suspect, shown: list[Labelled]) -> str:
    """Try the usual scales and both colour orders; name the one under which it sees people."""
    own = suspect.bundle.input
    before = _miou(suspect, own, shown)
    swapped = replace(own, color="bgr" if own.color == "rgb" else "rgb")
    scaled = {name: replace(own, mean=m, std=s) for name, (m, s) in SCALES.items()}
    both = {name: replace(spec, color=swapped.color) for name, spec in scaled.items()}
    as_color = f"colour order: fed as {swapped.color}"
    tried = [(as_color, swapped), *((f"normalisation: fed as {n}", s) for n, s in scaled.items())]
    best, told = max(((_miou(suspect, spec, shown), told) for told, spec in tried))
    for name, spec in both.items():
        miou = _miou(suspect, spec, shown)
        if miou > best + ONE_CHANGE:
            best, told = miou, f"normalisation and {as_color}, {name}"
    if best < before + MUCH:
        return ""
    return (
        f"wrong {told} it reaches {100 * best:.1f} mIoU on {len(shown)} of the pictures, as the "
        f"spec says ({own.color}, mean {own.mean[0]:g}, std {own.std[0]:g}) {100 * before:.1f}"
    )


def _miou(suspect: Suspect, spec: InputSpec, shown: list[Labelled]) -> float:
    """Return the mIoU under a contract; 0 where that one is a collapse too."""
    bundle = suspect.bundle
    with open_artifact(replace(bundle, input=spec), suspect.artifact, threads=2) as segmenter:
        figures = evaluate(segmenter, shown).to_dict()
    return 0.0 if collapse(figures) else float(figures["miou"])


# --- the input's codes ----------------------------------------------------------------------------


def _input_codes(suspect: Suspect) -> str:
    """Compare what an int8 input can hold with what a pixel is by the spec."""
    held = layers.input_range(suspect.artifact.format, suspect.bundle.file(suspect.artifact))
    if held is None:
        return ""
    eats = TensorSpec((1, 1, 1, 3), "float32", "nhwc")
    real = np.asarray(pixels.input_table(suspect.bundle.input, eats), np.float64)  # (256, 3)
    low, high = held
    step, pixel = (high - low) / 255, float(np.diff(real, axis=0).mean())
    has = f"its int8 input holds {low:.3g} to {high:.3g} in steps of {step:.2g}"
    fed = f"a pixel is fed as {real.min():.3g} to {real.max():.3g}"
    codes = np.clip(np.floor((real - low) / step + 0.5), 0, 255)
    distinct = max(len(np.unique(channel)) for channel in codes.T)
    if step > COARSE * pixel:
        raw = ": those of raw pixels, 0 to 255" if RAW[0] < high <= RAW[1] else ""
        return (
            f"wrong normalisation: {has}, but {fed}, so that {distinct} of 256 levels are told "
            f"apart; it was calibrated on other numbers{raw}"
        )
    outside = float(((real < low - step) | (real > high + step)).mean())
    if outside > CLIPPED:
        return f"saturated input: {has}, but {fed}, so that {outside:.0%} of its levels are clipped"
    return ""


# --- layers ---------------------------------------------------------------------------------------


def _dead_layer(suspect: Suspect, shown: list[Labelled]) -> str:
    """Name the layer from which on nothing depends on the picture, or whose bias overflowed."""
    bundle, artifact, sound = suspect.bundle, suspect.artifact, suspect.sound
    path = bundle.file(artifact)
    if artifact.format == "tflite" and sound is not None and sound.format == "tflite":
        wrong = guards.wrong_biases(path, bundle.file(sound))
        if wrong:
            return f"dead layer: quantisation changed the bias of {wrong[0]}"
    tensors = [_tensor(suspect, frame) for frame, _ in shown[:PROBES]]
    blind = layers.blind_from(artifact.format, path, tensors)
    if not blind:
        return ""
    return (
        f"dead layer: from {blind} on, nothing depends on the picture (weights of ~0, or a range "
        "that nothing leaves)"
    )


def _tensor(suspect: Suspect, frame: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Return what the artifact's own input is fed of a frame: numbers, not pixels."""
    bundle, artifact = suspect.bundle, suspect.artifact
    backend = open_backend(readers(artifact.format)[0], bundle.file(artifact))
    backend.close()
    codec = Codec(bundle.input, bundle.output, eats=backend.input, returns=backend.output)
    return codec.encode(pixels.prepare(frame, bundle.input)[0])
