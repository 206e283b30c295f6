"""PP-HumanSegV1-Lite as published (PaddleSeg), to be trained or compared beside ours.

[N, 3, H, W], float32, RGB, (x / 255 - 0.5) / 0.5, H and W multiples of 16, to two logits at full
size, [N, 2, H, W], channel 1 = person. `load_folded` takes the official ONNX file's weights.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_seg.errors import DatasetError
from edge_seg.training.network import conv_bn


class _Separable(nn.Module):
    """Depthwise 3x3 with batch norm and no activation, then 1x1 with batch norm and ReLU."""

    def __init__(self, cin: int, cout: int, *, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = conv_bn(cin, cin, 3, stride=stride, groups=cin, relu=False)
        self.pointwise = conv_bn(cin, cout)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.pointwise(self.depthwise(x))
        return out


def _shuffle(x: Tensor) -> Tensor:
    """Channel shuffle in two groups."""
    n, c, h, w = x.shape
    return x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class _Down(nn.Module):
    """Halves the picture and doubles the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.short = _Separable(channels, channels, stride=2)
        self.widen = conv_bn(channels, channels)
        self.long = _Separable(channels, channels, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return _shuffle(torch.cat([self.short(x), self.long(self.widen(x))], dim=1))

    def blocks(self) -> list[nn.Module]:
        return [
            self.short.depthwise,
            self.widen,
            self.short.pointwise,
            self.long.depthwise,
            self.long.pointwise,
        ]


class _Flat(nn.Module):
    """Half of the channels pass untouched."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mix = conv_bn(channels // 2, channels // 2)
        self.long = _Separable(channels // 2, channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.chunk(2, dim=1)
        return _shuffle(torch.cat([kept, self.long(self.mix(worked))], dim=1))

    def blocks(self) -> list[nn.Module]:
        return [self.mix, self.long.depthwise, self.long.pointwise]


class PPHumanSegV1Lite(nn.Module):
    """The paper's light network without the official class's dead branches: 131,766 parameters.

    [N, 3, H, W] to logits [N, 2, H, W], channel 1 = person. The last block ends with ReLU, as
    published, so the logits are never negative.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = conv_bn(3, 36, 3, stride=2)
        self.shortcut = conv_bn(36, 18)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stage1 = nn.Sequential(_Down(36), *(_Flat(72) for _ in range(3)))
        self.stage2 = nn.Sequential(_Down(72), *(_Flat(144) for _ in range(7)))
        self.reduce = _Separable(144, 64)
        self.fuse = _Separable(82, 64)
        self.classify = _Separable(64, 2)

    def forward(self, x: Tensor) -> Tensor:
        stem = self.stem(x)
        shortcut = self.shortcut(stem)
        deep = self.reduce(self.stage2(self.stage1(self.pool(stem))))
        deep = _resize(deep, shortcut)
        logits = self.classify(self.fuse(torch.cat([shortcut, deep], dim=1)))
        return _resize(logits, x)

    def blocks(self) -> list[nn.Module]:
        """Every convolution with its batch norm, in the order of the official ONNX file."""
        found: list[nn.Module] = [self.stem, self.shortcut]
        for unit in (*self.stage1, *self.stage2):
            assert isinstance(unit, (_Down, _Flat))
            found += unit.blocks()
        for separable in (self.reduce, self.fuse, self.classify):
            found += [separable.depthwise, separable.pointwise]
        return found


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def load_folded(blocks: list[nn.Module], pairs: list[tuple[Tensor, Tensor]]) -> None:
    """Load (weight, bias) of convolutions whose batch norms were folded into them, in order.

    The batch norms become the identity plus the bias. Raises DatasetError when number or shapes
    differ.
    """
    if len(blocks) != len(pairs):
        raise DatasetError(
            f"wanted {len(blocks)} biased convolutions, found {len(pairs)}; name the official file"
        )
    for index, (block, (weight, bias)) in enumerate(zip(blocks, pairs, strict=True)):
        assert isinstance(block, nn.Sequential)
        conv, norm = block[0], block[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        if conv.weight.shape != weight.shape:
            raise DatasetError(
                f"wanted convolution {index} of shape {tuple(conv.weight.shape)}, found "
                f"{tuple(weight.shape)}; this is another network"
            )
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            conv.weight.copy_(weight)
            norm.weight.fill_(1.0)
            norm.bias.copy_(bias)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)
