"""PP-HumanSegV1-Lite, the paper's light network as published (PaddleSeg), trained as ours are.

[N, 3, H, W], float32, RGB, (x / 255 - 0.5) / 0.5, H and W even, to one logit per cell of
a grid twice as coarse, [N, 1, H/2, W/2]: the person's less the background's. Published, it enlarges
both to H x W before their softmax; of their difference that is the same, and the runtime does it.

`official` takes the weights of the official ONNX file, in which batch norms are folded into the
convolutions. Before such a network is trained, `unfold` gives its batch norms back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from edge_seg.errors import DatasetError
from edge_seg.training.network import conv_bn

NAME = "pphumanseg-v1-lite"  # as a recipe's shape
SIDE = 224  # px; the official input is 398x224 (width x height), the frame letterboxed


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
    n, c, h, w = (int(side) for side in x.shape)  # numbers: they export as constants
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
        self.each = channels // 2
        self.mix = conv_bn(self.each, self.each)
        self.long = _Separable(self.each, self.each)

    def forward(self, x: Tensor) -> Tensor:
        kept, worked = x.split(self.each, dim=1)
        return _shuffle(torch.cat([kept, self.long(self.mix(worked))], dim=1))

    def blocks(self) -> list[nn.Module]:
        return [self.mix, self.long.depthwise, self.long.pointwise]


class PPHumanSegV1Lite(nn.Module):
    """The paper's light network without the official class's dead branches: 131,766 parameters.

    The last block ends with ReLU, as published, so neither class's logit is ever negative.
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
        deep = _enlarge(deep, shortcut.shape)
        classes = self.classify(self.fuse(torch.cat([shortcut, deep], dim=1)))
        background, person = classes.split(1, dim=1)
        logits: Tensor = person - background
        return logits

    def blocks(self) -> list[nn.Module]:
        """Every convolution with its batch norm, in the order of the official ONNX file."""
        found: list[nn.Module] = [self.stem, self.shortcut]
        for unit in (*self.stage1, *self.stage2):
            assert isinstance(unit, (_Down, _Flat))
            found += unit.blocks()
        for separable in (self.reduce, self.fuse, self.classify):
            found += [separable.depthwise, separable.pointwise]
        return found


def _enlarge(x: Tensor, like: torch.Size) -> Tensor:
    size = [int(side) for side in like[-2:]]
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)


def official(path: Path) -> PPHumanSegV1Lite:
    """The network with the weights of the official ONNX file. Raises DatasetError for another."""
    import onnx

    try:
        graph = onnx.load(str(path), load_external_data=False).graph  # it has none
        arrays = {i.name: onnx.numpy_helper.to_array(i).copy() for i in graph.initializer}
        pairs = [
            tuple(torch.from_numpy(arrays[n]) for n in node.input[1:3] if n in arrays)
            for node in graph.node
            if node.op_type == "Conv"
        ]
    except Exception as error:  # whatever protobuf and NumPy find wrong with it
        raise DatasetError(
            f"{path}: wanted the official PP-HumanSegV1-Lite as ONNX, found "
            f"{type(error).__name__}; name that file, or a run of edge-seg train"
        ) from None
    network = PPHumanSegV1Lite()
    load_folded(network.blocks(), pairs, where=str(path))
    return network.eval()


def load_folded(
    blocks: list[nn.Module], pairs: list[tuple[Tensor, ...]], *, where: str = "weights"
) -> None:
    """Load (weight, bias) of convolutions whose batch norms were folded into them, in order.

    The batch norms become the identity plus the bias. Raises DatasetError, naming `where`, when
    number or shapes differ.
    """
    wanted = [(tuple(conv.weight.shape), tuple(norm.bias.shape)) for conv, norm in _layers(blocks)]
    found = [tuple(tuple(tensor.shape) for tensor in pair) for pair in pairs]
    unlike = [n for n, (a, b) in enumerate(zip(wanted, found, strict=False)) if a != b]
    if len(wanted) != len(found) or unlike:
        first = f", of which number {unlike[0]} is {found[unlike[0]]}" if unlike else ""
        raise DatasetError(
            f"{where}: wanted the official PP-HumanSegV1-Lite's {len(wanted)} convolutions, found "
            f"{len(found)}{first}; name that file, or a run of edge-seg train"
        )
    for (conv, norm), (weight, bias) in zip(_layers(blocks), pairs, strict=True):
        assert norm.running_mean is not None and norm.running_var is not None
        with torch.no_grad():
            conv.weight.copy_(weight)
            norm.weight.fill_(1.0)
            norm.bias.copy_(bias)
            norm.running_mean.zero_()
            norm.running_var.fill_(1.0 - norm.eps)


def unfold(network: PPHumanSegV1Lite, x: Tensor) -> None:
    """Give every batch norm the mean and variance of what it sees of x, [N, 3, H, W].

    Its scale and offset change with them, so that the network computes what it did. Without this a
    folded network's first training step would normalise what was normalised already.
    """
    norms = [norm for _, norm in _layers(network.blocks())]
    hooks = [norm.register_forward_pre_hook(_take_statistics) for norm in norms]
    with torch.no_grad():
        network.eval()(x)
    for hook in hooks:
        hook.remove()


def _take_statistics(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None and norm.running_var is not None
    variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    norm.bias.add_(scale * (mean - norm.running_mean))
    norm.weight.copy_(scale * torch.sqrt(variance + norm.eps))
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


def _layers(blocks: list[nn.Module]) -> Iterator[tuple[nn.Conv2d, nn.BatchNorm2d]]:
    for block in blocks:
        assert isinstance(block, nn.Sequential)
        conv, norm = block[0], block[1]
        assert isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d)
        yield conv, norm
