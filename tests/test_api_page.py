"""docs/api.md says what the code says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import edge_seg

DOCS = Path(__file__).parent.parent / "docs"
UNLISTED = {"__version__", "EdgeSegError"}  # no call; the root of the tree


@pytest.fixture(scope="module")
def make_api() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_api", DOCS / "make_api.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes(make_api: ModuleType) -> None:
    written = (DOCS / "api.md").read_text(encoding="utf-8")
    assert written == make_api.page(), "docs/api.md is old: `make api` writes it anew"


def test_the_page_has_every_name_of_the_package(make_api: ModuleType) -> None:
    page = make_api.page()
    for name in set(edge_seg.__all__) - UNLISTED:
        assert f"**`{name}`**" in page or f"── {name}" in page, f"docs/make_api.py lists no {name}"


def test_the_page_leaves_out_no_argument_and_no_default(make_api: ModuleType) -> None:
    def called(frame: str, size: int = 3, *, drop: str = "oldest") -> None: ...

    class Kept:
        def read(self, seconds: float | None = None) -> bytes:
            """Read."""
            return b""

    assert make_api.signature(called, made=False) == (
        '`(frame: str, size: int = 3, *, drop: str = "oldest") -> None`'
    )
    assert make_api.signature(Kept.read, made=False) == (
        "`(seconds: float | None = None) -> bytes`"
    )


def test_the_page_leaves_out_explanations_but_where_they_are_asked_for(
    make_api: ModuleType,
) -> None:
    def told() -> None:
        """Return it.

        An explanation.

        size, rate: px, Hz. Raises FrameError.

        >>> told()
        """

    short = "Return it. `size, rate`: px, Hz. Raises FrameError."
    assert make_api.prose(told, whole=False) == short
    assert "An explanation. `size" in make_api.prose(told, whole=True)
