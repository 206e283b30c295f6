"""Our network, shaped for int8 on small CPUs.

`PortraitNet` takes a float32 tensor [N, 3, H, W], RGB, (x / 255 - 0.5) / 0.5, H and W multiples of
32, and returns one logit per cell of a grid four times coarser, [N, 1, H/4, W/4] ([N, 1, H/2, W/2]
in a shape with the fine head); the runtime resizes it bilinearly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_seg.spec import InputSpec, OutputSpec

STRIDE = 4  # a PortraitNet's decoder ends on a grid this much coarser than its input
FINE = 2  # the fine head gives so many logits a side in every cell of that grid


@dataclass(frozen=True)
class Shape:
    """Widths and depths of a `PortraitNet`: one entry per scale 1/4, 1/8, 1/16, 1/32.

    fine: the head gives 2x2 logits per cell of the decoder's grid, so they come at 1/2.
    """

    stem: int = 16
    widths: tuple[int, int, int, int] = (16, 48, 96, 128)
    depths: tuple[int, int, int, int] = (1, 4, 4, 2)
    decoder: tuple[int, int, int, int] = (16, 32, 48, 64)
    fine: bool = False

    @property
    def stride(self) -> int:
        """How much coarser than the input the logits are."""
        return STRIDE // FINE if self.fine else STRIDE


SHAPES: dict[str, Shape] = {
    "lite": Shape(stem=12, widths=(12, 32, 64, 96), depths=(1, 2, 4, 3), decoder=(12, 24, 32, 64)),
    "base": Shape(),  # under a million parameters: a float file of 4 MB
    # As many parameters as base; what it adds is width at 1/4 and logits at 1/2, for the contour.
    "fine": Shape(widths=(24, 48, 96, 128), decoder=(24, 32, 48, 64), fine=True),
    # Two thirds of fine's channels, less than half of its multiply-adds.
    "slim": Shape(widths=(16, 32, 64, 96), decoder=(16, 24, 32, 48), fine=True),
    "wide": Shape(widths=(16, 48, 112, 192), depths=(1, 3, 6, 3), decoder=(16, 32, 64, 128)),
}


def named(shape: Shape) -> str:
    """A shape as it is asked for, by its name; one without a name with all its numbers."""
    return next((name for name, known in SHAPES.items() if known == shape), str(shape))


def input_spec(side: int) -> InputSpec:
    """The input contract of a `PortraitNet`: the frame stretched to a square of `side` pixels."""
    return InputSpec(height=side, width=side, fit="stretch")


def to_input(pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 [N, S, S, 3] RGB to float32 [N, 3, S, S], (x / 255 - 0.5) / 0.5, channels last."""
    return pictures.to(device).permute(0, 3, 1, 2).to(torch.float32) / 127.5 - 1


def output_spec() -> OutputSpec:
    """The output contract of a `PortraitNet`."""
    return OutputSpec(activation="logit", channel=0)


def conv_bn(
    cin: int, cout: int, kernel: int = 1, *, stride: int = 1, groups: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm, and ReLU unless `relu` is false: one int8 op.

    Padding is (kernel - 1) // 2 on every side. For odd kernels at stride 1 and even kernels at
    stride 2 that is exactly TFLite's SAME on even sizes, so no PAD op is needed.
    """
    padding = (kernel - 1) // 2
    layers: list[nn.Module] = [
        nn.Conv2d(cin, cout, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Residual(nn.Module):
    """x + project(relu(conv3x3(x))): dense convolutions, which int8 dot products run fastest.

    Measured (LiteRT with XNNPACK, x86 with VNNI, one thread): 250 MMACs of these in int8 take
    the time of 110 MMACs of depthwise-separable blocks.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = conv_bn(channels, channels, 3)
        self.project = conv_bn(channels, channels, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.project(self.mix(x))
        return out


def fine_head(channels: int) -> nn.Sequential:
    """2x2 logits per cell: four channels, laid out as a grid twice as fine.

    Measured at 256x256 in int8: 1.08 times the time of one logit per cell; a 4x4 transposed
    convolution instead 1.2 times.
    """
    return nn.Sequential(nn.Conv2d(channels, FINE * FINE, 3, 1, 1), nn.PixelShuffle(FINE))


class PortraitNet(nn.Module):
    """Encoder to 1/32 and an adding decoder back to 1/4, made only of what int8 runs well.

    Convolution, ReLU, ADD and bilinear resize: no channel shuffle, no squeeze-excite, no
    hard-swish, no concatenation, no padded pool. Strided steps use even kernels (4 or 2), see
    `conv_bn`.
    """

    def __init__(self, shape: Shape | str = "base") -> None:
        super().__init__()
        if isinstance(shape, str):
            shape = SHAPES[shape]
        self.shape = shape
        widths, decoder = shape.widths, shape.decoder
        self.stem = nn.Sequential(
            conv_bn(3, shape.stem, 4, stride=2), conv_bn(shape.stem, widths[0], 2, stride=2)
        )
        self.stages = nn.ModuleList()
        for level, (width, depth) in enumerate(zip(widths, shape.depths, strict=True)):
            down = [] if level == 0 else [conv_bn(widths[level - 1], width, 2, stride=2)]
            self.stages.append(nn.Sequential(*down, *(Residual(width) for _ in range(depth))))
        self.lateral = nn.ModuleList(
            conv_bn(width, out, relu=False) for width, out in zip(widths, decoder, strict=True)
        )
        self.narrow = nn.ModuleList(
            conv_bn(coarse, fine, relu=False)
            for fine, coarse in zip(decoder[:-1], decoder[1:], strict=True)
        )
        self.merge = nn.ModuleList(Residual(width) for width in decoder[:-1])
        self.head: nn.Module = fine_head(decoder[0]) if shape.fine else nn.Conv2d(decoder[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        y = functional.relu(self.lateral[-1](features[-1]))
        for level in range(len(features) - 2, -1, -1):
            # A factor, not a size: it exports as a constant.
            y = functional.interpolate(
                self.narrow[level](y), scale_factor=2.0, mode="bilinear", align_corners=False
            )
            y = self.merge[level](functional.relu(self.lateral[level](features[level]) + y))
        out: Tensor = self.head(y)
        return out
