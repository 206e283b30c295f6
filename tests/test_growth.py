"""A grown network computes what the small one did, and all of it can learn; a pruned one keeps what
the wide one used: channels that nobody reads or writes go first.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training.growth import grown  # noqa: E402
from edge_seg.training.network import PortraitNet, Shape  # noqa: E402
from edge_seg.training.pruning import pruned  # noqa: E402

SMALL = Shape(stem=4, widths=(4, 6, 8, 8), depths=(1, 1, 1, 1), decoder=(4, 4, 6, 8))
LARGE = Shape(stem=6, widths=(8, 8, 9, 12), depths=(1, 1, 1, 1), decoder=(6, 6, 6, 10))


def lively(shape: Shape) -> PortraitNet:
    """A network whose batch norms are not the identity, as after training."""
    torch.manual_seed(0)
    network = PortraitNet(shape)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    return network.eval()


def logits(network: PortraitNet) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        out: torch.Tensor = network(torch.rand(2, 3, 64, 96) * 2 - 1)
    return out


def test_a_wider_network_begins_as_the_same_function() -> None:
    small = lively(SMALL)
    large = lively(LARGE)
    assert (logits(large) - logits(small)).abs().max() > 0.01
    large.load_state_dict(grown(small, large))
    assert logits(small).std() > 0.01
    torch.testing.assert_close(logits(large), logits(small), atol=1e-5, rtol=1e-4)


def test_a_fine_head_begins_as_the_bilinear_enlargement() -> None:
    small = lively(SMALL)
    large = PortraitNet(Shape(**{**vars(SMALL), "widths": (6, 6, 8, 8), "fine": True})).eval()
    large.load_state_dict(grown(small, large))
    wanted = functional.interpolate(logits(small), scale_factor=2, mode="bilinear")
    inside = (..., slice(1, -1), slice(1, -1))  # at the border there is no neighbour to lean on
    torch.testing.assert_close(logits(large)[inside], wanted[inside], atol=1e-5, rtol=1e-4)


def test_every_new_weight_is_moved_by_two_steps() -> None:
    """Nobody reads a new channel at first: one step opens it, the second moves it."""
    small = lively(SMALL)
    large = PortraitNet(Shape(**{**vars(SMALL), "widths": (6, 7, 9, 10), "decoder": (5, 6, 7, 9)}))
    state = grown(small, large)
    large.load_state_dict(state)
    optimizer = torch.optim.AdamW(large.parameters(), lr=1e-2, weight_decay=0.0)
    for seed in range(2):
        torch.manual_seed(seed)
        loss = functional.softplus(large(torch.rand(4, 3, 64, 64))).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for name, value in large.named_parameters():
        if "weight" in name and value.ndim > 1:
            still = (value.detach() == state[name]).flatten(1).all(1)
            assert not still.any(), f"{name}: output channels {still.nonzero().flatten()} are dead"


@pytest.mark.parametrize(
    "change", [{"depths": (1, 2, 1, 1)}, {"depths": (1, 1, 1, 2)}, {"widths": (3, 6, 8, 8)}]
)
def test_a_network_that_does_not_fit_is_refused(change: dict[str, tuple[int, ...]]) -> None:
    large = PortraitNet(Shape(**{**vars(SMALL), **change}))  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"wanted a network that fits into .* found"):
        grown(lively(SMALL), large)


def padded(small: PortraitNet, large: PortraitNet) -> PortraitNet:
    """`small` inside `large`, whose other channels are faint, and the order of all reversed."""
    old, state = small.state_dict(), grown(small, large)
    for name in old:
        if name.endswith("1.weight") and old[name].ndim == 1:
            state[name][len(old[name]) :] *= 1e-3
    for name, tensor in state.items():
        if not name.startswith("head") and tensor.ndim:
            tensor.copy_(tensor.flip(0))
        if not name.startswith("stem.0") and tensor.ndim > 1:
            tensor.copy_(tensor.flip(1))
    large.load_state_dict(state)
    return large


@pytest.mark.parametrize("fine", [False, True])
def test_what_is_used_is_found_wherever_it_lies(fine: bool) -> None:
    small = lively(Shape(**{**vars(SMALL), "fine": fine}))
    large = padded(small, lively(Shape(**{**vars(LARGE), "fine": fine})))
    torch.testing.assert_close(logits(large), logits(small), atol=1e-5, rtol=1e-4)
    again = lively(small.shape)
    for parameter in again.parameters():
        parameter.data.zero_()
    again.load_state_dict(pruned(large, again))
    assert logits(small).std() > 0.01
    torch.testing.assert_close(logits(again), logits(small), atol=1e-5, rtol=1e-4)


def test_a_narrower_network_still_answers_like_the_wide_one() -> None:
    wide = lively(LARGE)
    narrow = PortraitNet(Shape(**{**vars(LARGE), "widths": (7, 8, 9, 11)})).eval()
    random = logits(narrow)
    narrow.load_state_dict(pruned(wide, narrow))
    near, far = ((logits(wide) - other).abs().mean() for other in (logits(narrow), random))
    assert near < far / 2


@pytest.mark.parametrize(
    "change",
    [
        {"depths": (1, 2, 1, 1)},
        {"depths": (1, 1, 1, 2)},
        {"widths": (16, 6, 8, 8)},
        {"fine": True},
    ],
)
def test_a_network_of_which_it_is_no_part_is_refused(change: dict[str, object]) -> None:
    narrow = PortraitNet(Shape(**{**vars(SMALL), **change}))  # type: ignore[arg-type]
    with pytest.raises(DatasetError, match=r"run: wanted a network of which .* is a part, found"):
        pruned(lively(LARGE), narrow, where="run")


def test_depths_are_not_pruned() -> None:
    narrow = PortraitNet(SMALL)
    with pytest.raises(DatasetError, match="as deep"):
        pruned(lively(Shape(**{**vars(LARGE), "depths": (1, 2, 1, 1)})), narrow)
