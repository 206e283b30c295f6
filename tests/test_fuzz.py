"""The bundle loader, fuzzed: ten thousand hostile manifests, a few hundred in the fast lane.

A manifest is changed as JSON (values of any kind put, deleted and added anywhere, hostile ones
preferred) or as bytes. Whatever comes: an EdgeSegError or a bundle, soon, in bounded memory, and
never a file from outside. Beside the bundle lies a network that would open, and the changes know
its hash: a loader that let one path escape would hand it out.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import io
import json
import os
import resource
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, settings
from hypothesis import strategies as st

from edge_seg.board import Board, resolve
from edge_seg.bundle import MANIFEST, ModelBundle, Part, save_manifest
from edge_seg.cli import inspect
from edge_seg.errors import BackendFailure, BundleError, EdgeSegError
from edge_seg.files import sha256_of
from edge_seg.segmenter import EdgeSegmenter
from tests.conftest import make_fake_bundle

SECONDS = 60  # a case takes milliseconds, but the machine may be busy with others
MEMORY = 512 << 20  # bytes a case may claim beyond what the process holds already
FAST, ALL = 300, 10_000
QUALITY = {"miou": 0.9, "person_iou": 0.8, "boundary_f": 0.7, "sc": 0.6, "on": "val", "n": 4}
MADE = {"tools": {"fake": "1"}, "notes": ["none"]}
LATENCY = {"ms": 1.5, "machine": "a machine"}
FREE = ("name", "source", "made", "quality", "latency")  # where almost anything is allowed
FRAME = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)

numbers = st.one_of(
    st.sampled_from([0, 1, -1, 2, 64, 96, 4096, 4097, 1 << 31, -(1 << 63), 1 << 40, 10**4000]),
    st.sampled_from([float("nan"), float("inf"), -float("inf"), 5e-324, -0.0, 1e308, 0.5, 1e6]),
    st.integers(),
    st.floats(),
)
texts = st.one_of(
    st.sampled_from(["fake", "onnx", "fp32", "int8", "bgr", "stretch", "probability", "a" * 100]),
    st.sampled_from(["", ".", "..", "\0", "a\0b", "\ud800", "\x1b[31m", "\u202e", "x" * 5000]),
    st.sampled_from(["out/secret.json", "../secret.json", "link.json", "loop", "pipe", "deep"]),
    st.sampled_from(["fake-fp32.json", "./fake-fp32.json", "deep/../fake-fp32.json", MANIFEST]),
    st.text(max_size=12),
)
leaves = st.one_of(st.none(), st.booleans(), numbers, texts)


def nested(depth: int, as_list: bool) -> Any:
    """A value inside so many lists or objects."""
    value: Any = 1
    for _ in range(depth):
        value = [value] if as_list else {"a": value}
    return value


values = st.one_of(
    leaves,
    leaves,
    st.builds(nested, st.sampled_from([1, 20, 100, 400, 900]), st.booleans()),
    st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner),
        max_leaves=6,
    ),
)


@dataclass(frozen=True, repr=False)
class Ground:
    """A whole bundle in a hostile folder, and a board to open it on."""

    folder: Path
    board: Board
    whole: bytes
    entries: list[dict[str, Any]]

    def write(self, content: bytes) -> None:
        (self.folder / MANIFEST).write_bytes(content)


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Ground:
    """A bundle with links out of it, a loop, a pipe and a folder; a network outside."""
    base = tmp_path_factory.mktemp("fuzz")
    folder = base / "bundle"
    (folder / "deep").mkdir(parents=True)
    bundle = make_fake_bundle(folder)
    (folder / "more.bin").write_bytes(b"more")
    part = Part("more.bin", sha256_of(folder / "more.bin"), 4)
    first, *rest = bundle.artifacts
    full = replace(first, parts=(part,), quality=QUALITY, made=MADE, latency=LATENCY)
    save_manifest(replace(bundle, artifacts=(full, *rest), source={"file": "net.onnx"}))
    secret = base / "secret.json"
    secret.write_bytes((folder / first.file).read_bytes() + b"  ")
    (folder / "out").symlink_to(base)
    (folder / "link.json").symlink_to(secret)
    (folder / "zero").symlink_to("/dev/zero")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "pipe")
    board = base / "board.toml"
    runtime = '[[runtime]]\nbackend = "fake"\nprecision = "fp32"\n'
    board.write_text(f'title = "fake"\naliases = []\n{runtime}')
    names = ["../secret.json", "out/secret.json", "link.json", str(secret), "out/../secret.json"]
    names += ["zero", "loop", "pipe", "deep", "deep/../out/secret.json"]
    truth = {"sha256": sha256_of(secret), "size": secret.stat().st_size}
    whole = (folder / MANIFEST).read_bytes()
    return Ground(folder, resolve(str(board)), whole, [{**truth, "file": name} for name in names])


# --- changes --------------------------------------------------------------------------------------


def places(data: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (container, key) of a JSON value."""
    if isinstance(data, (dict, list)):
        for key in list(data) if isinstance(data, dict) else range(len(data)):
            yield data, key
            yield from places(data[key])


def change(data: Any, entries: list[dict[str, Any]], draw: Callable[..., Any]) -> None:
    """Change one place: another value, a file of the folder's traps, nothing, more of the same."""
    everywhere = [*places(data)]
    free = [p for c, k in everywhere if k in FREE for p in [(c, k), *places(c[k])]]
    container, key = draw(st.sampled_from(free or everywhere) | st.sampled_from(everywhere))
    how = draw(st.sampled_from(["value", "value", "trap", "trap", "delete", "add", "swap"]))
    if how == "value":
        container[key] = draw(values)
    elif how == "trap":
        files = [c for c, k in places(data) if k == "file"] or [container]
        chosen = draw(st.sampled_from(files))
        if isinstance(chosen, dict):
            chosen.update(draw(st.sampled_from(entries)))
    elif how == "delete":
        del container[key]
    elif how == "add":
        if isinstance(container, dict):
            container[draw(texts)] = draw(values)
        else:
            container.extend([copy.deepcopy(container[key])] * draw(st.integers(1, 70)))
    else:
        _, other = draw(st.sampled_from(list(places(data))))
        with contextlib.suppress(LookupError, TypeError):
            container[key], container[other] = container[other], container[key]


@st.composite
def as_json(draw: Callable[..., Any], ground: Ground) -> bytes:
    """A manifest changed in one to four places."""
    data = json.loads(ground.whole)
    for _ in range(draw(st.integers(1, 4))):
        if not any(True for _ in places(data)):
            break
        change(data, ground.entries, draw)
    try:
        return json.dumps(data).encode()
    except RecursionError:  # deeper than can be written; as_bytes makes deeper ones
        reject()


@st.composite
def as_bytes(draw: Callable[..., Any], ground: Ground) -> bytes:
    """A manifest's bytes, cut, changed, repeated."""
    data = ground.whole
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        end = min(len(data), start + draw(st.integers(0, 40)))
        put = draw(
            st.one_of(st.binary(max_size=8), st.sampled_from([b"{", b"[" * 3000, b'"', b"9"]))
        )
        data = data[:start] + put + draw(st.sampled_from([b"", data[start:end]])) + data[end:]
    return data


# --- what must hold -------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded() -> Iterator[None]:
    """Fail a case that takes more than SECONDS or MEMORY."""

    def late(*_: object) -> None:
        raise AssertionError(f"not done within {SECONDS} s")

    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, late)
    resource.setrlimit(resource.RLIMIT_AS, (held + MEMORY, hard))
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def hold(ground: Ground, content: bytes) -> str:
    """Load a manifest and use what comes of it as a user would; return how far it got."""
    ground.write(content)
    try:
        bundle = ModelBundle.load(ground.folder)
    except BundleError as error:
        assert len(str(error)) < 1000
        return "refused"
    for artifact in bundle.artifacts:
        with contextlib.suppress(BundleError):
            found = bundle.file(artifact)
            inside = [found, *(bundle.path / part.file for part in artifact.files)]
            assert all(p.resolve().parent == ground.folder.resolve() for p in inside), inside
            assert found.read_bytes() != (ground.folder.parent / "secret.json").read_bytes()
    assert len(bundle.verify()) <= len(bundle.artifacts)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert inspect.run(argparse.Namespace(bundle=ground.folder)) == 0
    assert "\x1b" not in said.getvalue() and "\0" not in said.getvalue()
    try:
        with EdgeSegmenter.open(bundle, board=ground.board) as segmenter:
            mask = segmenter.segment(FRAME)
    except EdgeSegError as error:
        assert not isinstance(error, BackendFailure)
        assert len(str(error)) < 2000
        return "not opened"
    assert mask.shape == (20, 30) and np.isfinite(mask).all()
    return "opened"


def fuzz(ground: Ground, cases: int) -> dict[str, int]:
    """Run that many cases, always the same ones; return how many got how far."""
    counts = {"refused": 0, "not opened": 0, "opened": 0}

    @settings(
        max_examples=cases,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(as_json(ground) | as_bytes(ground))
    def case(content: bytes) -> None:
        with bounded():
            counts[hold(ground, content)] += 1

    case()
    return counts


def test_the_ground_is_sound(ground: Ground) -> None:
    """What is fuzzed opens when nothing is changed: refusals are the changes' doing."""
    assert hold(ground, ground.whole) == "opened"


def test_a_few_hundred_hostile_manifests(ground: Ground) -> None:
    counts = fuzz(ground, FAST)
    print(counts)
    assert min(counts.values()) > 0, counts  # every outcome was reached


@pytest.mark.slow
def test_ten_thousand_hostile_manifests(ground: Ground) -> None:
    counts = fuzz(ground, ALL)
    print(counts)
    assert sum(counts.values()) >= ALL and min(counts.values()) > ALL // 50, counts
