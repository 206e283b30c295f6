"""`edge-seg run` that writes pictures: one, a folder, what it never replaces; and late masks."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from edge_seg import compositing
from edge_seg.camera import open_source
from edge_seg.cli import main
from edge_seg.cli.run import _composite
from edge_seg.errors import CameraError, OutputError
from edge_seg.recording import PICTURE_ENDS, MaskFolder, frames_in
from tests.damaged_video import damage

GREEN = ("--background", "#00ff00")


def _half_bright(path: Path, size: tuple[int, int] = (60, 80)) -> Path:
    """A picture whose left half is a "person" to the fake network."""
    picture = np.full((*size, 3), 30, np.uint8)
    picture[:, : size[1] // 2] = 230
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)
    return path


def _is_composite(path: Path, size: tuple[int, int] = (60, 80)) -> bool:
    """The person as it was, before green."""
    made = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert made is not None and made.shape == (*size, 3), path
    left, right = made[:, :20].mean(axis=(0, 1)), made[:, -20:].mean(axis=(0, 1))
    return bool(np.allclose(left, 230, atol=8) and np.allclose(right, (0, 255, 0), atol=8))


@pytest.fixture
def run(fake_bundle: Path, fake_board: Path) -> Callable[..., int]:
    """`edge-seg run` with the fake bundle and board; a usage error is its exit code, too."""

    def call(*arguments: object) -> int:
        words = ["run", str(fake_bundle), "--board", str(fake_board), *map(str, arguments)]
        try:
            return main(words)
        except SystemExit as left:
            return int(left.code or 0)

    return call


@pytest.mark.parametrize(
    "name", ["new/out.jpg", "out.JPEG", *(f"out{end}" for end in PICTURE_ENDS)]
)
def test_one_picture_becomes_one_picture(
    name: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = _half_bright(tmp_path / "in" / "me.png"), tmp_path / name
    assert run("--source", source, "-o", out, *GREEN) == 0
    assert _is_composite(out)
    kind = cv2.imread(str(out)) is not None and out.read_bytes()[:2]
    assert kind == (b"\x89P" if name.endswith("png") else b"\xff\xd8")
    assert [p.name for p in out.parent.iterdir() if p.is_file()] == [out.name]
    assert str(out) in capsys.readouterr().out


def test_a_folder_gets_one_picture_per_picture(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("b.jpg", "a.png"):
        _half_bright(tmp_path / "in" / name)
    made, masks = f"{tmp_path}/new/made/", tmp_path / "masks"
    assert run("--source", tmp_path / "in", "-o", made, "--masks", masks, *GREEN) == 0
    assert sorted(p.name for p in Path(made).iterdir()) == ["a.png", "b.png"]
    assert all(_is_composite(p) for p in Path(made).iterdir())
    assert sorted(p.name for p in masks.iterdir()) == ["a.png", "b.png"]
    assert "holds the 2 pictures" in capsys.readouterr().out


def test_a_video_becomes_numbered_pictures_in_a_folder_that_is_there(
    run: Callable[..., int], tmp_path: Path
) -> None:
    video, made = tmp_path / "in.avi", tmp_path / "made"
    made.mkdir()
    writer = cv2.VideoWriter(str(video), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (80, 60))
    for _ in range(3):
        writer.write(cv2.imread(str(_half_bright(tmp_path / "frame.png"))))
    writer.release()
    assert run("--source", video, "-o", made, *GREEN) == 0
    assert sorted(p.name for p in made.iterdir()) == [f"{i:06d}.png" for i in range(3)]
    assert all(_is_composite(p) for p in made.iterdir())


def test_a_picture_s_name_for_many_pictures_is_answered_with_a_folder(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a.png", "b.png"):
        _half_bright(tmp_path / "in" / name)
    for source in (tmp_path / "in", "fake:size=64x48"):
        assert run("--source", source, "-o", tmp_path / "out.png") == 2
        said = capsys.readouterr().err
        assert "source of one picture" in said and f"-o {tmp_path}/out/" in said
    assert not (tmp_path / "out.png").exists()


def test_no_picture_that_is_read_is_ever_replaced(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, beach = _half_bright(tmp_path / "in" / "a.png"), _half_bright(tmp_path / "sea" / "b.png")
    second = _half_bright(tmp_path / "sea" / "000000.png")
    label = _half_bright(tmp_path / "labels" / "a.png")
    _half_bright(tmp_path / "clip" / "frames" / "a.png")
    (tmp_path / "clip" / "masks").mkdir()
    (tmp_path / "set.txt").write_text("in/a.png labels/a.png\n")
    (tmp_path / "link").symlink_to(tmp_path / "in")
    before = {path: path.read_bytes() for path in (one, beach, second, label)}
    for words in (
        ("--source", one, "-o", one),
        ("--source", one, "-o", tmp_path / "in"),
        ("--source", tmp_path / "in", "-o", tmp_path / "in"),
        ("--source", tmp_path / "in", "-o", tmp_path / "link"),
        ("--source", one, "-o", beach, "--background", beach),
        ("--source", "fake:size=64x48", "-o", tmp_path / "sea", "--background", second),
        ("--source", tmp_path / "set.txt", "-o", tmp_path / "labels"),
        ("--source", tmp_path / "clip", "-o", tmp_path / "clip" / "masks"),
        ("--source", one, "-o", f"{tmp_path}/x/", "--masks", tmp_path / "x"),
    ):
        assert run(*words) == 2, words
        assert "wanted " in capsys.readouterr().err
    assert all(path.read_bytes() == data for path, data in before.items())
    assert not list((tmp_path / "clip" / "masks").iterdir()) and not (tmp_path / "x").exists()


def test_what_cannot_be_written_is_a_sentence(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _half_bright(tmp_path / "in" / "a.png")
    (tmp_path / "file").touch()
    for name in ("file/", "file/out.png"):
        assert run("--source", source, "-o", f"{tmp_path}/{name}") == 1
        assert "choose another -o" in capsys.readouterr().err
    assert run("--source", source, "-o", tmp_path / "out.gif") == 2
    told = ".webm (a video), in .png or .jpg (one picture), or in a slash"
    assert told in capsys.readouterr().err


def test_a_picture_too_long_to_segment_is_named_and_left_out(
    run: Callable[..., int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = _half_bright(tmp_path / "in" / "a.png").parent
    cv2.imwrite(str(folder / "b.png"), np.zeros((2, 40000, 3), np.uint8))
    assert run("--source", folder, "-o", tmp_path / "out.webm") == 1
    assert "b.png: wanted a picture of at most" in caplog.text and "found 40000x2" in caplog.text
    assert frames_in(tmp_path / "out.webm") == 1


@pytest.mark.parametrize(
    ("damaged", "shown"),
    [("cd", "abbbefgh"), ("a", "bbcdefgh"), ("h", "abcdefgg"), ("abfgh", "cccdeeee")],
)
def test_a_clip_with_damaged_frames_keeps_its_length(
    damaged: str, shown: str, run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    """A frame that is missing shows the one before, or the first there is."""
    frames, levels = tmp_path / "clip" / "frames", {}
    frames.mkdir(parents=True)
    for i, name in enumerate("abcdefgh"):
        levels[name] = 20 + 30 * i
        cv2.imwrite(str(frames / f"{name}.png"), np.full((64, 64, 3), levels[name], np.uint8))
    for name in damaged:
        (frames / f"{name}.png").write_bytes(b"")
    out = tmp_path / "out.webm"
    assert run("--source", tmp_path / "clip", "-o", out, "--background", "none") == 1
    said = capsys.readouterr()
    assert f"{out}: 8 frames, 64x64, 30 fps" in said.out and "times the speed" not in said.err
    assert f"they cannot be read: {len(damaged)} of 8 pictures, each named" in said.err
    with open_source(out) as video:
        seen = [float(shot.frame.mean()) for shot in video]
    assert seen == pytest.approx([levels[name] for name in shown], abs=4)


@pytest.mark.parametrize(("damaged", "shown"), [([2, 3], "abbbefgh"), ([0], "bbcdefgh")])
def test_a_video_with_damaged_frames_keeps_its_length(
    damaged: list[int], shown: str, run: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    levels = {name: 20 + 30 * i for i, name in enumerate("abcdefgh")}
    source, out = tmp_path / "in.avi", tmp_path / "out.webm"
    writer = cv2.VideoWriter(str(source), cv2.VideoWriter.fourcc(*"MJPG"), 8.0, (64, 48))
    for level in levels.values():
        writer.write(np.full((48, 64, 3), level, np.uint8))
    writer.release()
    assert run("--source", source, "-o", out, "--background", "none") == 0
    damage(source, damaged)
    assert run("--source", source, "-o", out, "--background", "none") == 1
    said = capsys.readouterr()
    assert f"{out}: 8 frames, 64x48, 8 fps" in said.out and "times the speed" not in said.err
    with open_source(out) as video:
        seen = [float(shot.frame.mean()) for shot in video]
    assert seen == pytest.approx([levels[name] for name in shown], abs=4)


def test_what_is_interrupted_says_what_was_left_out(
    run: Callable[..., int], eight: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    (eight / "frames" / "b.png").write_bytes(b"")
    real = MaskFolder.write

    def write(self: MaskFolder, mask: Any, name: str) -> Path:
        if name == "e":
            raise KeyboardInterrupt
        return real(self, mask, name)

    monkeypatch.setattr(MaskFolder, "write", write)
    assert run("--source", eight, "--masks", eight / "m") == 130
    said = capsys.readouterr().err
    assert "holds the 3 masks made so far; left out, because they cannot be read: 1 of 8" in said


def test_what_fills_up_beside_a_video_costs_nothing_of_it(
    run: Callable[..., int],
    eight: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    real, calls = MaskFolder.write, [0]

    def write(self: MaskFolder, mask: Any, name: str) -> Path:
        calls[0] += 1
        if calls[0] > 5:
            raise OutputError("wanted to write a mask, found: No space left on device")
        return real(self, mask, name)

    monkeypatch.setattr(MaskFolder, "write", write)
    out = tmp_path / "out.webm"
    assert run("--source", eight, "-o", out, "--masks", tmp_path / "masks") == 1
    said = capsys.readouterr().err
    assert frames_in(out) == 5 and "holds the 5 frames made so far" in said
    assert "holds the 5 masks made so far" in said and "No space left" in said


def test_unrelated_pictures_carry_no_masks_where_smoothing_is_off(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in range(4):  # one wall, another place of whoever is there: no cut to see
        picture = np.full((60, 80, 3), 30, np.uint8)
        picture[20:40, 20 * i : 20 * i + 10] = 230
        (tmp_path / "in").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / "in" / f"{i}.png"), picture)
    words = ("--source", tmp_path / "in", "--fps", 30, "--smoothing", "off")
    assert run(*words, "--masks", tmp_path / "all") == 0
    assert run(*words, "--every", 2, "--masks", tmp_path / "every") == 0
    assert "change nothing for unrelated pictures" in capsys.readouterr().err
    for i in range(4):
        seen, kept = (cv2.imread(str(tmp_path / k / f"{i}.png"), -1) for k in ("all", "every"))
        assert seen is not None and kept is not None
        np.testing.assert_array_equal(seen, kept)


# --- masks that come too late -----------------------------------------------------------------


def late(monkeypatch: pytest.MonkeyPatch, first: int) -> None:
    """Let every mask but the first so many come too late, whatever the machine's speed."""
    from edge_seg.errors import MaskLate
    from edge_seg.segmenter import EdgeSegmenter

    real, calls = EdgeSegmenter.segment_shot, [0]

    def segment(self: EdgeSegmenter, *words: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] > first:
            raise MaskLate("wanted a mask in time, found none; try the next frame")
        return real(self, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(EdgeSegmenter, "segment_shot", segment)


@pytest.fixture
def eight(tmp_path: Path) -> Path:
    """A clip of eight frames."""
    for name in "abcdefgh":
        _half_bright(tmp_path / "clip" / "frames" / f"{name}.png")
    return tmp_path / "clip"


@pytest.mark.parametrize("older", [True, False])
def test_a_run_whose_every_mask_was_late_has_failed_and_says_so(
    older: bool,
    run: Callable[..., int],
    eight: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    late(monkeypatch, first=0)
    out, masks = eight / "out.webm", eight / "m"
    if older:
        out.write_bytes(b"yesterday's")
    words = ("--source", eight, "--masks", masks, "--deadline", 1)
    assert run(*words, "-o", out) == 1
    said = capsys.readouterr()
    assert ": every mask came after --deadline 1 ms, of 8 frames; give it more time" in said.err
    assert "edge-seg: nothing was written" in said.err
    assert (f"the older {out} is as it was" in said.err) == older == out.exists()
    assert not older or out.read_bytes() == b"yesterday's"
    assert not list(masks.iterdir()) and "0 masks" not in said.out
    assert run(*words) == 1 and run("--source", eight, "-o", f"{eight}/d/", "--deadline", 1) == 1


@pytest.mark.parametrize(("first", "most"), [(3, True), (4, False)])
def test_it_is_said_where_most_masks_were_late(
    first: int,
    most: bool,
    run: Callable[..., int],
    eight: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    late(monkeypatch, first)
    out, made = eight / "out.webm", f"{eight}/made/"
    assert run("--source", eight, "-o", out, "--deadline", 60000) == 0
    said = capsys.readouterr().err
    assert frames_in(out) == 8 and f"{8 - first} masks left out" in said
    assert ("more than half of the 8" in said) == most == ("give --deadline more time" in said)
    monkeypatch.undo()
    late(monkeypatch, first)
    assert run("--source", eight, "-o", made, "--deadline", 60000) == 0
    assert [p.name for p in sorted(Path(made).iterdir())] == [f"{n}.png" for n in "abcd"[:first]]


# --- pictures that are left out ---------------------------------------------------------------


def test_pictures_of_other_formats_are_left_out_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _half_bright(tmp_path / "UP.JPG")
    for name in ("t.tiff", "u10.HEIC", "u2.gif", "v.avif", ".w.tif"):
        (tmp_path / name).touch()
    for name in ("notes.txt", "labels.json", "README.md", "a.xml"):
        (tmp_path / name).touch()
    with open_source(tmp_path) as source:
        assert [shot.name for shot in source] == ["UP"]
    (said,) = [record.message for record in caplog.records]
    assert "found 4 of other formats (t.tiff, u2.gif, u10.HEIC, ...): left out" in said
    assert ".w.tif" not in said and "notes" not in said


def test_nothing_is_said_of_what_is_no_picture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _half_bright(tmp_path / "a.png")
    (tmp_path / "notes.txt").touch()
    open_source(tmp_path).close()
    assert not caplog.records


def test_a_folder_of_other_formats_alone_is_named_for_it(tmp_path: Path) -> None:
    (tmp_path / "t.tiff").touch()
    with pytest.raises(CameraError, match=r"found 1 of other formats \(t\.tiff\): convert them"):
        open_source(tmp_path)


def test_a_folder_of_folders_is_told_to_name_one(tmp_path: Path) -> None:
    for name in ("monday", "tuesday", ".hidden"):
        (tmp_path / name).mkdir()
    with pytest.raises(CameraError, match=r"found none, but folders \(monday, tuesday\); name"):
        open_source(str(tmp_path))
    (tmp_path / "note.txt").touch()
    (tmp_path / "empty").mkdir()
    with pytest.raises(CameraError, match="found none; check the path"):
        open_source(str(tmp_path / "empty"))


def test_a_jpeg_by_another_name_is_a_picture_and_another_format_is_named(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = _half_bright(tmp_path / "me.jpg").rename(tmp_path / "me.jfif")
    assert run("--source", source, "-o", tmp_path / "out.png", *GREEN) == 0
    assert _is_composite(tmp_path / "out.png")
    _half_bright(tmp_path / "me.tif")
    assert run("--source", tmp_path / "me.tif", "-o", tmp_path / "new.png") == 2
    said = capsys.readouterr().err
    assert "me.tif: wanted a JPEG, PNG, BMP or WebP picture" in said and "convert" in said


@pytest.mark.parametrize("end", [".png", ".webm"])
def test_a_link_is_written_through_and_stays(
    end: str, run: Callable[..., int], tmp_path: Path
) -> None:
    """As to a larger disk: the file belongs there."""
    source = _half_bright(tmp_path / "me.png")
    disk, link = tmp_path / "disk", tmp_path / f"out{end}"
    disk.mkdir()
    link.symlink_to(disk / f"real{end}")
    for _ in range(2):  # it is not there yet, and it is
        assert run("--source", source, "-o", link, *GREEN) == 0
        assert link.is_symlink() and (disk / f"real{end}").stat().st_size > 0
    assert [path.name for path in disk.iterdir()] == [f"real{end}"]
    assert len(list(tmp_path.iterdir())) == 5  # these three, the fake bundle's and board's


@pytest.mark.parametrize("end", [".png", ".webm"])
def test_a_pipe_is_refused_and_stays(
    end: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = tmp_path / f"pipe{end}"
    os.mkfifo(pipe)
    assert run("--source", _half_bright(tmp_path / "me.png"), "-o", pipe) == 1
    assert "found a pipe or a device; choose another -o" in capsys.readouterr().err
    assert pipe.is_fifo()


@pytest.mark.parametrize("name", ["a" * 300 + ".png", "a" * 300 + ".webm", "circle.png"])
def test_a_name_that_cannot_be_one_ends_in_a_sentence(
    name: str, run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "circle.png").symlink_to("circle.png")
    source = _half_bright(tmp_path / "me.png")
    assert run("--source", source, "-o", tmp_path / name) == 1
    said = capsys.readouterr().err
    assert "there, found: " in said and "choose another -o" in said and "defect" not in said
    assert run("--source", tmp_path / name, "-o", tmp_path / "x.png") == 2
    assert run("--source", source, "--masks", f"{tmp_path / name}/") == 1
    assert "defect" not in capsys.readouterr().err


def test_a_name_as_long_as_a_name_can_be_is_written(
    run: Callable[..., int], tmp_path: Path
) -> None:
    name = "a" * 251
    source = _half_bright(tmp_path / f"{name}.png")
    assert run("--source", source, "-o", f"{tmp_path}/out/", "--masks", tmp_path / "m") == 0
    assert run("--source", source, "-o", tmp_path / f"{name[:-1]}.webm") == 0
    assert (tmp_path / "out" / f"{name}.png").is_file()
    assert (tmp_path / "m" / f"{name}.png").is_file()


def test_no_name_is_not_the_folder_one_stands_in(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As "$PICTURES" is where the variable is not set."""
    assert run("--source", "", "-o", tmp_path / "x.webm") == 2
    assert "found an empty name; is a variable not set?" in capsys.readouterr().err


@pytest.mark.parametrize("end", [".png", ".webp"])
def test_an_animation_s_first_frame_is_not_taken_in_silence(
    end: str,
    run: Callable[..., int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    frames = [Image.new("RGB", (64, 48), (60 * i, 20, 90)) for i in range(4)]
    frames[0].save(tmp_path / f"still{end}")
    with caplog.at_level(logging.WARNING, "edge_seg"):
        assert run("--source", tmp_path / f"still{end}", "-o", tmp_path / "s.png") == 0
        assert not caplog.records
        frames[0].save(tmp_path / f"moves{end}", save_all=True, append_images=frames[1:])
        assert run("--source", tmp_path / f"moves{end}", "-o", tmp_path / "m.png") == 0
    assert "its first frame alone is read" in caplog.text


@pytest.mark.parametrize("background", ["blur", "#00ff00"])
def test_masks_of_an_empty_room_are_no_mistake_of_the_user_s(
    background: str, caplog: pytest.LogCaptureFixture
) -> None:
    frame, nobody = np.full((60, 80, 3), 90, np.uint8), np.ones((60, 80), np.uint8)
    compositing._say_ones.cache_clear()
    with caplog.at_level(logging.WARNING, "edge_seg"):
        _composite(background)(frame, nobody)
        assert not caplog.records
        compositing.firm(nobody)
    assert "found one of 0 and 1 alone" in caplog.text


def test_a_folder_one_may_not_enter_is_said(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As the system answers anybody but root, whom no folder is closed to."""
    closed = _half_bright(tmp_path / "closed" / "me.png").parent

    def refusing(call: Callable[..., Any]) -> Callable[..., Any]:
        def checked(path: Any, *arguments: Any, **more: Any) -> Any:
            listed = call.__name__ == "iterdir" and path == closed
            if listed or str(path).startswith(f"{closed}/"):
                raise PermissionError(13, "Permission denied", str(path))
            return call(path, *arguments, **more)

        return checked

    monkeypatch.setattr(os, "stat", refusing(os.stat))
    monkeypatch.setattr(Path, "stat", refusing(Path.stat))
    monkeypatch.setattr(Path, "iterdir", refusing(Path.iterdir))
    assert run("--source", closed, "-o", f"{tmp_path}/out/") == 2
    said = capsys.readouterr().err
    assert "wanted a folder of pictures, found: Permission denied; check its permissions" in said
    assert run("--source", tmp_path, "--background", closed / "me.png", "-o", "x.png") == 2
    assert "me.png': Permission denied; give" in capsys.readouterr().err
