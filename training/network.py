"""The networks: ours, shaped for int8 on small CPUs, and PP-HumanSegV1-Lite as published.

Both take a float32 tensor [N, 3, H, W], RGB, (x / 255 - 0.5) / 0.5. `PortraitNet` wants H and W
to be multiples of 32 and returns one logit per cell of a grid four times coarser,
[N, 1, H/4, W/4]; the runtime resizes it bilinearly. `PPHumanSegV1Lite` wants multiples of 16 and
returns two logits at full size, [N, 2, H, W], channel 1 = person.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

STRIDE = 4  # PortraitNet's logits are this much coarser than its input


@dataclass(frozen=True)
class Shape:
    """Widths and depths of a `PortraitNet`: one entry per scale 1/4, 1/8, 1/16, 1/32."""

    stem: int = 16
    widths: tuple[int, int, int, int] = (16, 48, 96, 128)
    depths: tuple[int, int, int, int] = (1, 4, 4, 2)
    decoder: tuple[int, int, int, int] = (16, 32, 48, 64)


SHAPES: dict[str, Shape] = {
    "lite": Shape(stem=12, widths=(12, 32, 64, 96), depths=(1, 2, 4, 3), decoder=(12, 24, 32, 64)),
    "base": Shape(),  # under a million parameters: a float file of 4 MB
    "wide": Shape(widths=(16, 48, 112, 192), depths=(1, 3, 6, 3), decoder=(16, 32, 64, 128)),
}


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


class PortraitNet(nn.Module):
    """Encoder to 1/32 and an adding decoder back to 1/4, made only of what int8 runs well.

    Convolution, ReLU, ADD and bilinear resize: no shuffle, no squeeze-excite, no hard-swish, no
    concatenation, no padded pool. Strided steps use even kernels (4 or 2), see `conv_bn`.
    """

    def __init__(self, shape: Shape | str = "base") -> None:
        super().__init__()
        if isinstance(shape, str):
            if shape not in SHAPES:
                raise ValueError(
                    f"wanted a network shape, one of {', '.join(SHAPES)}; found {shape!r}; "
                    f"choose one of those"
                )
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
        self.head = nn.Conv2d(decoder[0], 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        features: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        y = functional.relu(self.lateral[-1](features[-1]))
        for level in range(len(features) - 2, -1, -1):
            size = features[level].shape[-2:]
            y = functional.interpolate(
                self.narrow[level](y), size=size, mode="bilinear", align_corners=False
            )
            y = self.merge[level](functional.relu(self.lateral[level](features[level]) + y))
        out: Tensor = self.head(y)
        return out
