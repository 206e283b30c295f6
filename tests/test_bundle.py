"""Bundles come from outside: round trips, and damage of every kind."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_seg import bundle as bundle_module
from edge_seg.bundle import MANIFEST, ModelBundle, describe
from edge_seg.errors import BundleError, EdgeSegError
from edge_seg.files import sha256_of
from edge_seg.opening import load_bundle
from tests.conftest import make_fake_bundle

OUTSIDE = "../secret.bin"
# The bundle of a test stays the same for all its examples; tests.conftest has why slow ones may be.
FIXTURE_AND_SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


def manifest(folder: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    return data


def rewrite(folder: Path, data: object) -> None:
    (folder / MANIFEST).write_text(json.dumps(data), encoding="utf-8")


# --- what is whole -------------------------------------------------------------------------------


def test_a_saved_bundle_loads_as_it_was(tmp_path: Path) -> None:
    saved = make_fake_bundle(tmp_path)
    loaded = ModelBundle.load(tmp_path)
    assert loaded == saved
    assert ModelBundle.load(str(tmp_path)) == saved
    assert loaded.verify() == []
    for artifact in loaded.artifacts:
        assert loaded.named(artifact.name) is artifact
        assert loaded.find(artifact.format, artifact.precision) is artifact
        assert loaded.file(artifact).stat().st_size == artifact.size


@pytest.mark.parametrize("path", ["", 3, b"name"])
def test_what_is_no_path_is_said_on_opening(path: Any) -> None:
    """An empty one, a variable that is not set, was the current directory."""
    with pytest.raises(BundleError, match="wanted a bundle's folder or name, or a ModelBundle"):
        load_bundle(path)


@pytest.mark.parametrize("path", [3, b"name", ["a", "b"]])
def test_what_is_no_path_is_said(path: Any) -> None:
    with pytest.raises(BundleError, match="wanted a bundle's folder or name, found"):
        ModelBundle.load(path)


def test_a_bundle_can_be_moved(fake_bundle: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "under another name"
    moved.parent.mkdir()
    fake_bundle.rename(moved)
    assert ModelBundle.load(moved).verify() == []


def test_the_hash_is_sha256(tmp_path: Path) -> None:
    path = tmp_path / "abc"
    path.write_bytes(b"abc")  # FIPS 180-2's first example
    wanted = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(path) == wanted


def test_an_artifact_that_is_not_there_names_those_that_are(fake_bundle: Path) -> None:
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BundleError, match="tflite-int8.*fake-fp32, fake-int8"):
        bundle.find("tflite", "int8")
    with pytest.raises(BundleError, match="tflite-int8, found only .* --to tflite"):
        bundle.named("tflite-int8")


@pytest.mark.parametrize("name", ["nonsense", "fake", "fake-", "fake-int4", "-int8", "", "x" * 999])
def test_a_name_that_is_no_artifact_s_gets_those_there_are(fake_bundle: Path, name: str) -> None:
    bundle = ModelBundle.load(fake_bundle)
    other = replace(bundle.artifacts[0], format="onnx")
    with pytest.raises(BundleError) as told:
        replace(bundle, artifacts=(*bundle.artifacts, other)).named(name)
    assert f"found {name!r}"[:60] in str(told.value)
    assert str(told.value).endswith("those it holds: fake-fp32, fake-int8, onnx-fp32")
    assert f"wanted {name}-" not in str(told.value) and "convert" not in str(told.value)


def test_a_name_in_an_artifact_s_place_is_said(fake_bundle: Path) -> None:
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BundleError, match=r"wanted an Artifact .* found 'fake-fp32'; named\(\)"):
        bundle.file("fake-fp32")  # type: ignore[arg-type]


# --- what is not a bundle ------------------------------------------------------------------------


def test_a_folder_that_is_not_there_and_one_that_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no such folder"):
        ModelBundle.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no manifest\.json"):
        ModelBundle.load(tmp_path)
    with pytest.raises(BundleError, match="wanted a bundle"):
        ModelBundle.load(__file__)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"not json",
        b"\xff\xfe\x00\x01",
        b"[]",
        b"null",
        b"3",
        b"[" * 100_000,
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        b"1" * 10_000,
        b'{"format_version": ' + b"9" * 10_000 + b"}",
        b'{"format_version": 1e999}',
        b'{"format_version": NaN}',
        b" " * ((1 << 20) + 1),
    ],
)
def test_a_manifest_that_is_none_names_its_path(fake_bundle: Path, content: bytes) -> None:
    (fake_bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        ModelBundle.load(fake_bundle)
    assert str(fake_bundle / MANIFEST) in str(caught.value)
    assert len(str(caught.value)) < 600


def test_a_large_manifest_is_refused_before_it_is_read(fake_bundle: Path) -> None:
    with open(fake_bundle / MANIFEST, "r+b") as file:
        file.truncate(1 << 40)  # a sparse terabyte: reading it would not end
    with pytest.raises(BundleError, match="under 1048576 bytes"):
        ModelBundle.load(fake_bundle)


def test_a_newer_format_says_to_upgrade(fake_bundle: Path) -> None:
    rewrite(fake_bundle, {**manifest(fake_bundle), "format_version": 2, "shape": "new"})
    with pytest.raises(BundleError, match="found 2; upgrade edge-seg"):
        ModelBundle.load(fake_bundle)


@pytest.mark.parametrize("version", [0, -1, "1", True, 1.0, None])
def test_a_version_that_is_none_is_refused(fake_bundle: Path, version: object) -> None:
    rewrite(fake_bundle, {**manifest(fake_bundle), "format_version": version})
    with pytest.raises(BundleError):
        ModelBundle.load(fake_bundle)


@pytest.mark.parametrize(
    "key", ["format_version", "name", "input", "output", "artifacts", "source"]
)
def test_a_missing_entry_is_named(fake_bundle: Path, key: str) -> None:
    data = manifest(fake_bundle)
    del data[key]
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError, match=key):
        ModelBundle.load(fake_bundle)


WRONG_ENTRIES = [
    (key, value)
    for key in ("format", "precision", "file", "sha256", "size", "made", "quality")
    for value in (None, 0.5, True, "", "x" * 5000, [])
]


@pytest.mark.parametrize("key,value", WRONG_ENTRIES)
def test_a_wrong_artifact_entry_is_refused(fake_bundle: Path, key: str, value: object) -> None:
    data = manifest(fake_bundle)
    data["artifacts"][0][key] = value
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError) as caught:
        ModelBundle.load(fake_bundle)
    assert "artifacts[0]" in str(caught.value)
    assert len(str(caught.value)) < 600


def test_two_artifacts_of_one_name_are_refused(fake_bundle: Path) -> None:
    data = manifest(fake_bundle)
    data["artifacts"].append(data["artifacts"][0])
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError, match="one artifact per format and precision"):
        ModelBundle.load(fake_bundle)


@pytest.mark.parametrize("count", [0, 65])
def test_no_artifacts_or_too_many_are_refused(fake_bundle: Path, count: int) -> None:
    data = manifest(fake_bundle)
    data["artifacts"] = [data["artifacts"][0]] * count
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError, match=r"wanted 1\.\.64 artifacts"):
        ModelBundle.load(fake_bundle)


# --- paths that escape ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        OUTSIDE,
        "/etc/passwd",
        "a/../../secret.bin",
        "..",
        "..\\secret.bin",
        "C:\\secret.bin",
        "a\0b",
        "\ud800",
        "a\nb",
        MANIFEST,
        "x" * 300,
    ],
)
def test_a_path_that_escapes_is_refused(fake_bundle: Path, name: str) -> None:
    (fake_bundle.parent / "secret.bin").write_bytes(b"secret")
    data = manifest(fake_bundle)
    data["artifacts"][0]["file"] = name
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError, match="wanted a file name inside the bundle"):
        ModelBundle.load(fake_bundle)


@pytest.mark.parametrize("how", ["file", "folder"])
def test_a_link_that_leaves_the_bundle_is_refused(fake_bundle: Path, how: str) -> None:
    outside = fake_bundle.parent / "outside"
    outside.mkdir()
    secret = outside / "secret.json"
    secret.write_text((fake_bundle / "fake-fp32.json").read_text())
    name = "link.json" if how == "file" else "link/secret.json"
    (fake_bundle / name.split("/")[0]).symlink_to(secret if how == "file" else outside)
    data = manifest(fake_bundle)
    data["artifacts"][0]["file"] = name
    rewrite(fake_bundle, data)
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BundleError, match="link out of it"):
        bundle.file(bundle.artifacts[0])
    assert len(bundle.verify()) == 1


def test_a_bundle_reached_through_a_link_is_fine(fake_bundle: Path, tmp_path: Path) -> None:
    link = tmp_path / "link-to-bundle"
    link.symlink_to(fake_bundle)
    assert ModelBundle.load(link).verify() == []


# --- artifacts that changed ----------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "edited", "longer", "missing", "folder", "pipe"])
def test_an_artifact_that_changed_is_never_handed_out(fake_bundle: Path, damage: str) -> None:
    bundle = ModelBundle.load(fake_bundle)
    artifact = bundle.artifacts[0]
    path = fake_bundle / artifact.file
    content = bytearray(path.read_bytes())
    if damage == "truncated":
        path.write_bytes(content[:-3])
    elif damage == "edited":
        content[5] ^= 1
        path.write_bytes(content)
    elif damage == "longer":
        path.write_bytes(content + b" ")
    else:
        path.unlink()
        if damage == "folder":
            path.mkdir()
        if damage == "pipe":
            os.mkfifo(path)  # reading it would never end
    with pytest.raises(BundleError) as caught:
        bundle.file(artifact)
    assert str(path) in str(caught.value)
    assert bundle.verify() == [str(caught.value)]


def test_an_artifact_of_another_size_is_refused_before_it_is_read(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = ModelBundle.load(fake_bundle)
    artifact = bundle.artifacts[0]
    with open(fake_bundle / artifact.file, "r+b") as file:
        file.truncate(1 << 40)  # a sparse terabyte: hashing it would not end
    monkeypatch.setattr(bundle_module, "sha256_of", lambda path: pytest.fail("it was read"))
    with pytest.raises(BundleError, match=f"wanted {artifact.size} bytes, found {1 << 40}"):
        bundle.file(artifact)


def test_an_artifact_that_cannot_be_read_is_a_bundle_error(
    fake_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(path: Path) -> str:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(bundle_module, "sha256_of", unreadable)
    bundle = ModelBundle.load(fake_bundle)
    with pytest.raises(BundleError, match="Permission denied"):
        bundle.file(bundle.artifacts[0])


@pytest.mark.parametrize("size", [0, -1, 1 << 40])
def test_a_size_that_cannot_be_is_refused(fake_bundle: Path, size: int) -> None:
    data = manifest(fake_bundle)
    data["artifacts"][0]["size"] = size
    rewrite(fake_bundle, data)
    with pytest.raises(BundleError, match="bytes"):
        ModelBundle.load(fake_bundle)


def test_an_empty_artifact_is_not_described(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(BundleError, match="bytes"):
        describe(tmp_path / "empty", format="fake", precision="fp32")


# --- random damage -------------------------------------------------------------------------------

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(10**300, 10**310)
    | st.floats()
    | st.text(max_size=12)
    | st.sampled_from(["fake", "int8", "rgb", OUTSIDE, "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=8,
)


def places_in(data: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value, as a path of keys."""
    found = [path] if path else []
    items = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in items:
        found += places_in(value, (*path, key))
    return found


def change(data: Any, path: tuple[str | int, ...], value: object, *, delete: bool) -> None:
    for key in path[:-1]:
        data = data[key]
    if delete:
        del data[path[-1]]
    else:
        data[path[-1]] = value


@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURE_AND_SLOW)
@given(choice=st.data())
def test_a_manifest_changed_at_random_never_raises_anything_else(
    fake_bundle: Path, choice: st.DataObject
) -> None:
    original = (fake_bundle / MANIFEST).read_text(encoding="utf-8")
    data = json.loads(original)
    for _ in range(choice.draw(st.integers(1, 3))):
        places = places_in(data)
        if not places:
            break
        path = choice.draw(st.sampled_from(places))
        change(data, path, choice.draw(json_values), delete=choice.draw(st.booleans()))
    rewrite(fake_bundle, data)
    try:
        bundle = ModelBundle.load(fake_bundle)
        bundle.verify()
        str(bundle)
    except BundleError as error:
        str(error).encode("utf-8", "backslashreplace")
    finally:
        (fake_bundle / MANIFEST).write_text(original, encoding="utf-8")


@settings(max_examples=200, deadline=None, suppress_health_check=FIXTURE_AND_SLOW)
@given(at=st.floats(0, 1), byte=st.integers(0, 255), cut=st.booleans())
def test_bytes_changed_at_random_never_raise_anything_else(
    fake_bundle: Path, at: float, byte: int, cut: bool
) -> None:
    path = fake_bundle / MANIFEST
    original = path.read_bytes()
    damaged = bytearray(original)
    index = int(at * (len(damaged) - 1))
    damaged[index] = byte
    path.write_bytes(damaged[:index] if cut else damaged)
    try:
        ModelBundle.load(fake_bundle).verify()
    except EdgeSegError as error:
        assert isinstance(error, BundleError)
    finally:
        path.write_bytes(original)


@pytest.mark.parametrize("depth", [100, 800, 900, 950, 980, 990, 1000, 5000])
def test_nesting_of_any_depth_is_a_bundle_error(fake_bundle: Path, depth: int) -> None:
    text = (fake_bundle / MANIFEST).read_text(encoding="utf-8")
    deep = "[" * depth + "]" * depth
    (fake_bundle / MANIFEST).write_text(text.replace('"bright is person"', deep), encoding="utf-8")
    with pytest.raises(BundleError):
        ModelBundle.load(fake_bundle)


def test_a_name_that_no_message_could_quote_is_refused(fake_bundle: Path) -> None:
    path = fake_bundle / MANIFEST
    for length, fits in ((255, True), (256, False)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "name": "x" * length}))
        if fits:
            assert len(ModelBundle.load(fake_bundle).name) == length
        else:
            with pytest.raises(BundleError, match="'name' of up to 255 characters, found 256"):
                ModelBundle.load(fake_bundle)
