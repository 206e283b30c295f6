"""Every name of a network builds it, and no other name does."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch: pip install edge-seg[train]")

from edge_seg.errors import DatasetError  # noqa: E402
from edge_seg.training import shapes  # noqa: E402


@pytest.mark.parametrize("name", shapes.NAMES)
def test_a_network_gives_one_logit_per_cell_of_its_grid(name: str) -> None:
    network = shapes.network_of(name).eval()
    stride = 4 if name in ("lite", "base", "wide") else 2
    with torch.no_grad():
        assert network(torch.zeros(2, 3, 64, 96)).shape == (2, 1, 64 // stride, 96 // stride)


def test_an_unknown_shape_is_refused_with_the_known_ones() -> None:
    with pytest.raises(DatasetError, match=r"lite, base, fine, slim, wide, pphumanseg.*huge"):
        shapes.network_of("huge")
