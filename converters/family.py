"""Networks whose input contract is known, so that no `--spec` is needed.

The PP-HumanSeg family (PaddleSeg, contrib/PP-HumanSeg): RGB, (x / 255 - 0.5) / 0.5, two classes
with the person second. Told by the form of the graph: one 3-channel input of a released size and
one output of two channels. `fit` and `pad` are by measurement (docs/decisions.md): on pictures of
all proportions a letterbox with grey 127, the value the networks were trained to see as padding,
beats stretching by 3.7 (V2-Lite) and 9.8 points of mIoU (V1-Lite).
"""

from __future__ import annotations

from edge_seg.errors import ConversionError
from edge_seg.spec import InputSpec, OutputSpec

# (height, width) of the released networks (README of contrib/PP-HumanSeg).
PP_HUMANSEG_SIZES = frozenset({(224, 398), (144, 256), (256, 144), (192, 192), (512, 512)})

EXAMPLE = """\
[input]
height = 320
width = 320
mean = [0.5, 0.5, 0.5]      # tensor = (pixel / 255 - mean) / std, in the network's colour order
std = [0.5, 0.5, 0.5]
color = "rgb"               # or "bgr"
fit = "letterbox"           # or "stretch"
pad = 127                   # pixel value of a letterbox's bars
[output]
activation = "probability"  # or "logit"
channel = 1                 # which channel is the person
"""


def known_spec(
    input_shape: tuple[int, ...], output_shape: tuple[int, ...], *, normalized: bool
) -> tuple[InputSpec, OutputSpec]:
    """Return the contract of a network of a known family, by the shapes of its graph (NCHW).

    normalized: whether the graph ends in a softmax or sigmoid.
    Raises ConversionError with an example of a spec file where the network is not known.
    """
    size = (input_shape[2], input_shape[3])
    if size in PP_HUMANSEG_SIZES and output_shape[1] == 2 and output_shape[2:] == size:
        activation = "probability" if normalized else "logit"
        return InputSpec(*size), OutputSpec(activation, channel=1)
    raise ConversionError(
        "wanted a network whose input contract is known (PP-HumanSeg), found input "
        f"{input_shape} and output {output_shape}; write its contract in a file and pass "
        f"--spec FILE.toml, for example:\n\n{EXAMPLE}"
    )
