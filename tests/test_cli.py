"""The commands as a user meets them: what they write, what they say, how they exit."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge_seg import cli
from edge_seg._version import __version__
from edge_seg.cli import VERBS, main
from edge_seg.pictures import read_picture
from edge_seg.recording import frames_in
from tests.conftest import make_fake_bundle

LEFT, RIGHT = slice(0, 60), slice(100, 160)  # columns well inside the two halves of `clip`


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    """Six frames of 160x120 at 10 fps: the left half bright (a "person" to the fake backend), the
    right half dark.
    """
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 120))
    assert writer.isOpened()
    for _ in range(6):
        frame = np.full((120, 160, 3), 30, dtype=np.uint8)
        frame[:, :80] = 230
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture
def run(fake_bundle: Path, fake_board: Path) -> Callable[..., int]:
    """`edge-seg run` with the fake bundle and board."""

    def call(*arguments: object) -> int:
        words = ["run", str(fake_bundle), "--board", str(fake_board), *map(str, arguments)]
        return main(words)

    return call


def _usage_error(call: Callable[[], int]) -> None:
    with pytest.raises(SystemExit) as left:
        call()
    assert left.value.code == 2


def _first_frame(path: Path) -> np.ndarray:
    ok, frame = cv2.VideoCapture(str(path)).read()
    assert ok
    return frame


# --- every verb ------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main([verb, "--help"])
    assert left.value.code == 0
    text = capsys.readouterr().out
    assert f"edge-seg {verb}" in text
    assert len(text) > 150


def test_help_lists_every_verb_and_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"    {verb} " in text for verb in VERBS)
    assert "130" in text and "143" in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out == f"edge-seg {__version__}\n"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_seg", "boards"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0
    assert "raspberry-pi-5" in done.stdout and "rpi5" in done.stdout


@pytest.mark.parametrize("words", [[], ["fly"], ["run"], ["bench", "--threads", "0"]])
def test_wrong_words_are_usage_errors(words: list[str]) -> None:
    _usage_error(lambda: main(words))


@pytest.mark.parametrize("verb", ["run", "bench", "boards"])
def test_an_option_a_verb_does_not_have_is_answered_with_the_verb_s_own(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ["--source", "x"] if verb == "run" else []
    _usage_error(lambda: main([verb, *needed, "--secs", "2", "3"]))
    said = capsys.readouterr().err
    assert said.startswith(f"usage: edge-seg {verb} ") and "found others: --secs" in said
    assert f"edge-seg {verb} --help" in said


@pytest.mark.parametrize("words", [["bench"], ["run", "--source", "x"], ["eval", "--labels", "x"]])
@pytest.mark.parametrize("threads", ["257", "1000", "-1", "two"])
def test_as_many_threads_as_no_board_has_are_a_usage_error(
    words: list[str], threads: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _usage_error(lambda: main([*words, "--threads", threads]))
    assert f"CPU threads, 1 to 256, found '{threads}'" in capsys.readouterr().err


@pytest.mark.parametrize("every", ["0", "31", "1.5"])
def test_a_mask_carried_for_too_long_is_a_usage_error(
    every: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _usage_error(lambda: main(["run", "--source", "x", "--every", every]))
    assert f"frames, 1 to 30, found '{every}'" in capsys.readouterr().err


# --- run -------------------------------------------------------------------------------------


def test_run_writes_as_many_frames_and_masks_as_it_read(
    run: Callable[..., int], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    assert run("--source", clip, "-o", out, "--masks", masks) == 0
    assert frames_in(out) == 6
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == pytest.approx(10)
    assert sorted(p.name for p in masks.iterdir()) == [f"{i:06d}.png" for i in range(6)]
    mask = cv2.imread(str(masks / "000003.png"), cv2.IMREAD_UNCHANGED)
    assert (mask.shape, mask.dtype) == ((120, 160), np.uint8)
    assert mask[:, LEFT].min() > 250 and mask[:, RIGHT].max() < 5
    said = capsys.readouterr().out
    assert "6 frames, 160x120, 10 fps" in said and "6 masks" in said


def test_the_background_becomes_the_colour_and_the_person_stays(
    run: Callable[..., int], clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webm"
    assert run("--source", clip, "-o", out, "--background", "#ff0000") == 0
    frame = _first_frame(out)
    np.testing.assert_allclose(frame[60, RIGHT].mean(axis=0), (0, 0, 255), atol=12)  # BGR
    np.testing.assert_allclose(frame[60, LEFT].mean(axis=0), (230, 230, 230), atol=12)


def test_the_background_becomes_the_picture(
    run: Callable[..., int], clip: Path, tmp_path: Path
) -> None:
    green = np.zeros((50, 300, 3), np.uint8)
    green[:] = (0, 180, 0)
    cv2.imwrite(str(tmp_path / "beach.png"), green)
    out = tmp_path / "out.webm"
    assert run("--source", clip, "-o", out, "--background", tmp_path / "beach.png") == 0
    np.testing.assert_allclose(_first_frame(out)[60, RIGHT].mean(axis=0), (0, 180, 0), atol=12)


def test_background_none_changes_nothing(
    run: Callable[..., int], clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.webm"
    assert run("--source", clip, "-o", out, "--background", "none") == 0
    np.testing.assert_allclose(_first_frame(out)[60, RIGHT], 30, atol=12)


def test_frames_are_turned_and_mirrored_before_they_are_segmented(
    run: Callable[..., int], clip: Path, tmp_path: Path
) -> None:
    assert run("--source", clip, "--masks", tmp_path / "m", "--mirror") == 0
    mask = cv2.imread(str(tmp_path / "m" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert mask[:, :60].max() < 5 and mask[:, 100:].min() > 250
    assert run("--source", clip, "--masks", tmp_path / "r", "--rotate", 90) == 0
    mask = cv2.imread(str(tmp_path / "r" / "000000.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (160, 120)
    assert mask[:60].min() > 250 and mask[100:].max() < 5


def test_a_list_of_pictures_of_many_sizes(run: Callable[..., int], tmp_path: Path) -> None:
    for name, size in (("a", (40, 60)), ("b", (90, 30)), ("c", (64, 64))):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.full((*size, 3), 250, np.uint8))
    (tmp_path / "list.txt").write_text("a.png\nb.png\nc.png a.png\n")
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    assert run("--source", tmp_path / "list.txt", "-o", out, "--masks", masks, "--fps", 5) == 0
    assert frames_in(out) == 3
    assert cv2.VideoCapture(str(out)).get(cv2.CAP_PROP_FPS) == pytest.approx(5)
    shapes = {p.stem: read_picture(p).shape[:2] for p in masks.iterdir()}
    assert shapes == {"a": (40, 60), "b": (90, 30), "c": (64, 64)}


def test_two_pictures_of_one_name_are_refused_before_one_mask_replaces_the_other(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        cv2.imwrite(str(tmp_path / folder / "same.png"), np.zeros((9, 9, 3), np.uint8))
    (tmp_path / "list.txt").write_text("x/same.png\ny/same.png\n")
    _usage_error(lambda: run("--source", tmp_path / "list.txt", "--masks", tmp_path / "m"))
    assert "'same' twice" in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to write"),
        (["-o", "out.mp4"], ".webm"),
        (["-o", "out.webm", "--background", "#12345"], "give six digits"),
        (["-o", "out.webm", "--background", "beach.png"], "found 'beach.png': No such file"),
        (["-o", "out.webm", "--background", "red"], "give a colour as #RRGGBB"),
        (["-o", "out.webm", "--background", "."], "found '.': a folder"),
        (["-o", "out.webm", "--background", ""], "a picture, found ''"),
        (["-o", ""], "is a variable not set?"),
        (["--masks", ""], "is a variable not set?"),
        (["-o", "out.webm", "--fps", "0"], "frames per second"),
        (["-o", "out.webm", "--fps", "nan"], "frames per second"),
        (["-o", "out.webm", "--smoothing", "0"], "half-life of 1 to 10000 milliseconds or off"),
        (["-o", "out.webm", "--smoothing", "nan"], "half-life of 1 to 10000 milliseconds or off"),
        (["-o", "out.webm", "--rotate", "45"], "90"),
    ],
)
def test_wrong_options_of_run(
    run: Callable[..., int],
    clip: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    told: str,
) -> None:
    _usage_error(lambda: run("--source", clip, *words))
    assert told in capsys.readouterr().err


def test_clips_are_smoothed_and_unrelated_pictures_only_when_asked(
    run: Callable[..., int], tmp_path: Path
) -> None:
    """Grey noise is a mask that flickers to the fake network."""
    rng = np.random.default_rng(0)
    for folder in ("clip/frames", "pictures"):
        (tmp_path / folder).mkdir(parents=True)
    for i in range(10):
        coarse = (127 + rng.normal(0, 1.5, (12, 16, 3))).round().astype(np.uint8)
        frame = cv2.resize(coarse, (160, 120), interpolation=cv2.INTER_NEAREST)
        for folder in ("clip/frames", "pictures"):
            cv2.imwrite(str(tmp_path / folder / f"{i}.png"), frame)

    def flicker(source: str, *words: object) -> float:
        masks = tmp_path / f"{source}{len(words)}{words[-1:]}"
        assert run("--source", tmp_path / source, "--masks", masks, "--fps", 10, *words) == 0
        read = [cv2.imread(str(masks / f"{i}.png"), cv2.IMREAD_GRAYSCALE) for i in range(10)]
        assert all(mask is not None for mask in read)
        return float(np.mean([cv2.absdiff(a, b).mean() for a, b in pairwise(read)]))

    raw = flicker("pictures")
    assert raw > 0.5 and flicker("clip", "--smoothing", "off") == raw
    assert flicker("clip") < 0.6 * raw
    assert (
        flicker("pictures", "--smoothing", 800)
        == flicker("clip")
        < flicker("clip", "--smoothing", 50)
    )


def test_the_source_is_never_overwritten(
    run: Callable[..., int], clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = clip.rename(clip.with_suffix(".webm"))
    before = video.read_bytes()
    _usage_error(lambda: run("--source", video, "-o", video))
    assert video.read_bytes() == before
    assert "source" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("source", "code", "told"),
    [
        ("missing.mp4", 2, "no such file"),
        ("empty", 2, "found none"),
        ("notes.mp4", 2, "no video"),
        ("broken.txt", 2, "line 1"),
        ("rstp://camera/1", 2, "rtsp://..."),
    ],
)
def test_a_source_that_cannot_be_opened(
    run: Callable[..., int],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    source: str,
    code: int,
    told: str,
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.mp4").write_text("just words")
    (tmp_path / "broken.txt").write_text("not-there.png\n")
    name = source if "://" in source else tmp_path / source
    assert run("--source", name, "-o", tmp_path / "out.webm") == code
    told_all = capfd.readouterr().err
    assert told in told_all and "Traceback" not in told_all
    assert not (tmp_path / "out.webm").exists()


def test_a_truncated_picture_is_left_out_by_name_and_the_others_are_made(
    run: Callable[..., int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), np.full((30, 30, 3), 80, np.uint8))
    whole = (folder / "1.png").read_bytes()
    (folder / "1.png").write_bytes(whole[: len(whole) // 2])
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    assert run("--source", folder, "-o", out, "--masks", masks) == 1
    said = capsys.readouterr()
    assert "1.png: wanted a whole picture" in caplog.text and "left out" in caplog.text
    assert "because they cannot be read: 1 of 3 pictures, each named" in said.err
    assert f"{out}: 2 frames" in said.out and f"{masks}: 2 masks" in said.out
    assert frames_in(out) == 2 and not list(tmp_path.glob(".*"))
    assert sorted(p.name for p in masks.iterdir()) == ["0.png", "2.png"]
    before = out.read_bytes()
    for i in (0, 2):
        (folder / f"{i}.png").write_bytes(whole[: len(whole) // 2])
    assert run("--source", folder, "-o", out) == 2  # none of them can be read
    assert "nothing was written" in capsys.readouterr().err and out.read_bytes() == before
    assert run("--source", folder, "-o", f"{tmp_path}/d/") == 2
    assert "nothing was written" in capsys.readouterr().err


def test_an_edited_artifact_is_said_and_the_next_runtime_runs(
    run: Callable[..., int],
    clip: Path,
    tmp_path: Path,
    fake_bundle: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = fake_bundle / "fake-int8.json"
    path.write_bytes(path.read_bytes().replace(b"96", b"97"))
    assert run("--source", clip, "-o", tmp_path / "out.webm") == 0
    assert "sha256" in caplog.text and "fake fp32" in caplog.text


def test_no_runtime_at_all(
    run: Callable[..., int],
    clip: Path,
    tmp_path: Path,
    fake_bundle: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for path in fake_bundle.glob("fake-*.json"):
        path.unlink()
    assert run("--source", clip, "-o", tmp_path / "out.webm") == 4
    said = capsys.readouterr().err
    assert "fake-int8.json" in said and "fake-fp32.json" in said and "doctor" in said
    assert not list(tmp_path.glob("*.webm"))


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)]
)
def test_ctrl_c_sigterm_and_a_closed_terminal_finish_the_file_and_say_how_much_it_holds(
    number: signal.Signals, code: int, fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "many" / "frames"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
    data = cv2.imencode(".png", noise)[1].tobytes()
    for i in range(600):
        (folder / f"{i:05d}.png").write_bytes(data)
    out, masks = tmp_path / "out.webm", tmp_path / "masks"
    command = [sys.executable, "-m", "edge_seg", "run", str(fake_bundle), "--board", fake_board]
    command += ["--source", folder.parent, "-o", out, "--masks", masks]
    # A shell that starts CI in the background hands down SIGINT as ignored: a terminal does not.
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.monotonic() + 60
    while not (masks / "00004.png").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(number)
    _, said = running.communicate(timeout=60)
    assert running.returncode == code
    held = frames_in(out)
    assert 4 <= held < 600
    assert f"holds the {held} frames" in said and "Traceback" not in said
    assert not list(tmp_path.glob(".*.part*"))


def test_a_full_disk_ends_the_run_with_one_sentence(
    fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(8):
        noise = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), noise)
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000));"
        "from edge_seg.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, "run", fake_bundle, "--board", fake_board]
    command += ["--source", folder, "-o", tmp_path / "out.webm", "--background", "none"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "free space" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not list(tmp_path.glob("*.webm")) and not list(tmp_path.glob(".*"))


# --- bench, boards, doctor, inspect, verify --------------------------------------------------


def test_bench_says_first_that_the_figures_are_not_the_boards(
    fake_bundle: Path, fake_board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    words = ["bench", str(fake_bundle), "--board", str(fake_board), "--calls", "5"]
    assert main([*words, "--json", str(report)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Measured on ") and lines[0].endswith("not a figure of that board.")
    assert any("generated 1280x720" in line for line in lines)
    for stage in ("prepare", "encode", "infer", "decode", "restore", "frame to mask"):
        assert any(stage in line for line in lines), stage
    data = json.loads(report.read_text())
    assert (data["is_board"], data["artifact"]) == (False, "fake-int8")
    assert {"measured_on", "board", "stages"} <= set(data)
    assert "edges" in data["stages"]
    assert main([*words, "--edges", "off", "--json", str(report)]) == 0
    assert "edges" not in json.loads(report.read_text())["stages"]


def test_bench_on_a_clip_with_labels(
    fake_bundle: Path,
    fake_board: Path,
    clip: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("PIL", reason="labels are read by the workshop: edge-seg[convert]")
    picture = np.full((64, 96, 3), 10, np.uint8)
    picture[:, :48] = 245
    cv2.imwrite(str(tmp_path / "p.png"), picture)
    label = np.zeros((64, 96), np.uint8)
    label[:, :48] = 1
    cv2.imwrite(str(tmp_path / "l.png"), label)
    (tmp_path / "set.txt").write_text("p.png l.png\n")
    report = tmp_path / "report.json"
    words = ["bench", str(fake_bundle), "--board", str(fake_board), "--source", str(clip)]
    words += ["--labels", str(tmp_path / "set.txt"), "--calls", "3", "--json", str(report)]
    assert main(words) == 0
    data = json.loads(report.read_text())
    assert data["frame_sizes"] == [[120, 160]]
    assert data["quality"]["n"] == 1 and data["quality"]["miou"] > 0.95
    said = capsys.readouterr().out
    assert "quality on set.txt (1 pictures), with the picture's contours: mIoU" in said
    assert main([*words, "--edges", "off"]) == 0
    assert "quality on set.txt (1 pictures), the network alone: mIoU" in capsys.readouterr().out
    assert json.loads(report.read_text())["quality"]["edges"] is False


def test_boards_names_every_board_and_its_runtimes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["boards"]) == 0
    said = capsys.readouterr().out
    for name in ("raspberry-pi-4", "raspberry-pi-5", "jetson-orin-nano", "intel-npu", "generic"):
        assert name in said
    assert said.count("(this machine)") == 1


def test_doctor_counts_the_runtimes_that_work(
    fake_bundle: Path, fake_board: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", str(fake_bundle), "--board", str(fake_board)]
    assert main(words) == 0
    assert capsys.readouterr().out.count("works") == 2
    (fake_bundle / "fake-int8.json").unlink()
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "1. missing" in said and "fake-int8.json" in said
    assert "would run on fake fp32" in said
    (fake_bundle / "fake-fp32.json").unlink()
    assert main(words) == 4
    assert "cannot run" in capsys.readouterr().out


def test_doctor_names_the_command_that_mends_a_missing_library(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "board.toml").write_text(
        'title = "Odd"\naliases = []\n[[runtime]]\nbackend = "abacus"\nprecision = "int8"\n'
    )
    assert main(["doctor", "--board", str(folder / "board.toml")]) == 4
    said = capsys.readouterr().out
    assert "abacus" in said and "tflite" in said
    # A Python without ai-edge-litert: the path that finds it is taken away.
    script = (
        "import sys; sys.modules['ai_edge_litert'] = None; sys.modules['tflite_runtime'] = None;"
        "from edge_seg.cli import main; sys.exit(main(['doctor', '--board', 'rpi5']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 4
    assert "pip install ai-edge-litert" in done.stdout
    assert "Traceback" not in done.stderr


def test_doctor_in_a_frozen_program_says_where_what_is_missing_is_added(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`sys.frozen` is PyInstaller's mark; no pip reaches into what it made."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if not p.endswith("-packages")])
    for library in ("ai_edge_litert", "tflite_runtime"):
        monkeypatch.setitem(sys.modules, library, None)
    assert main(["doctor", "--board", "rpi5"]) == 4
    said = capsys.readouterr().out
    assert "in a frozen program" in said
    assert "the system's Python" not in said and "a virtual environment" not in said
    lines = said.splitlines()
    for install in ("pip install ai-edge-litert (", "mend: pip install", "install python3-picam"):
        advice = [line for line in lines if install in line]
        assert advice and all("where this frozen program is built" in line for line in advice)


@pytest.mark.parametrize("active", [True, False])
def test_doctor_says_which_pip_where_the_environment_is_not_active(
    active: bool, tmp_path: Path
) -> None:
    """As on a board, where its programs are called by their path; the shell's pip is Debian's."""
    for folder in ("bin", "debian"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "pip").write_text("#!/bin/sh\n")
        (tmp_path / folder / "pip").chmod(0o755)
    script = (
        f"import sys; sys.modules['ai_edge_litert'] = None; sys.prefix = {str(tmp_path)!r};"
        "from edge_seg.cli import main; sys.exit(main(['doctor', '--board', 'rpi5']))"
    )
    path = str(tmp_path / ("bin" if active else "debian"))
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env={"PATH": path}
    )
    assert "pip install ai-edge-litert" in done.stdout, done.stderr
    assert (f"environment's: {tmp_path}/bin/pip" in done.stdout) != active


@pytest.mark.parametrize("board", ["rpi4", "rpi5", "jetson-orin-nano", "intel-npu", "generic"])
def test_doctor_never_raises_for_any_board(board: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--board", board]) in (0, 4)
    assert "1. " in capsys.readouterr().out


def test_doctor_looks_through_the_camera(
    fake_bundle: Path, fake_board: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["doctor", str(fake_bundle), "--board", str(fake_board), "--camera"]
    assert main([*words, str(clip)]) == 0
    assert "160x120" in capsys.readouterr().out
    assert main([*words, "/dev/video63"]) == 2
    assert "/dev/video63" in capsys.readouterr().out


def test_an_unknown_board_is_a_wrong_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--board", "rpi9"]) == 2
    assert "rpi5" in capsys.readouterr().err


def test_inspect_shows_what_the_manifest_says(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "b"
    folder.mkdir()
    make_fake_bundle(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["artifacts"][1]["quality"] = {"miou": 0.9412, "person_iou": 0.91, "n": 170}
    manifest["artifacts"][1]["made"] = {"float_operators": ["RESIZE_BILINEAR"], "tool": "abacus 3"}
    manifest["name"] = "bad\x1b[31mname"
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert main(["inspect", str(folder)]) == 0
    said = capsys.readouterr().out
    for told in ("fake-int8", "94.12", "96x64", "letterbox", "RESIZE_BILINEAR", "network alone"):
        assert told in said, told
    assert "\x1b[31mname" not in said, "a manifest must not speak to the terminal"


def test_verify_tells_a_good_bundle_from_an_edited_one(
    fake_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(fake_bundle)]) == 0
    assert "all 2 artifacts" in capsys.readouterr().out
    path = fake_bundle / "fake-fp32.json"
    path.write_bytes(path.read_bytes().replace(b"64", b"65"))
    assert main(["verify", str(fake_bundle)]) == 2
    said = capsys.readouterr()
    assert "fake-fp32.json" in said.err and "sha256" in said.err
    assert "1 of 2" in said.out


@pytest.mark.parametrize("verb", ["bench", "inspect", "verify", "doctor"])
def test_no_bundle_there(verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([verb, str(tmp_path / "nothing")]) == 2
    assert "wanted a bundle" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["run --source fake: -o out.webm", "inspect b", "export portrait -o x.onnx"]
)
def test_a_directory_that_was_removed_is_said(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert main(words.split()) == 2
    said = capsys.readouterr().err
    assert "the current directory no longer exists" in said and "cd to another" in said


def test_a_reader_that_goes_away_is_no_error() -> None:
    command = f"{sys.executable} -m edge_seg boards | head -1"
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    done = subprocess.run(command, shell=True, capture_output=True, text=True, env=environment)
    assert done.stderr == ""


def test_run_writes_a_mask_for_frames_the_network_does_not_see(
    run: Callable[..., int], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", clip, "--masks", tmp_path / "m", "--every", 3) == 0
    assert "the network on 2 of 6 frames" in capsys.readouterr().out
    masks = sorted((tmp_path / "m").glob("*.png"))
    assert len(masks) == 6
    for path in masks:
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask[:, LEFT].min() > 250 and mask[:, RIGHT].max() < 5
    assert run("--source", clip, "--masks", tmp_path / "b", "--budget", 1e-6) == 0
    assert len(list((tmp_path / "b").glob("*.png"))) == 6
    said = capsys.readouterr().out
    assert "budget of 1e-06 ms NOT kept" in said and "the mean of the last 6 frames" in said
    with pytest.raises(SystemExit):
        run("--source", clip, "--masks", tmp_path / "n", "--budget", 0)
    assert "wanted milliseconds" in capsys.readouterr().err


def test_masks_never_replace_the_pictures_or_the_labels(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "clip" / "frames"
    folder.mkdir(parents=True)
    (tmp_path / "clip" / "masks").mkdir()
    cv2.imwrite(str(folder / "a.png"), np.full((60, 80, 3), 200, np.uint8))
    before = (folder / "a.png").read_bytes()
    (tmp_path / "link").symlink_to(folder)
    for source, masks in (
        (folder, folder),
        (folder, tmp_path / "link"),
        (folder / "a.png", folder),
        (tmp_path / "clip", folder),
        (tmp_path / "clip", tmp_path / "clip" / "masks"),
    ):
        _usage_error(lambda source=source, masks=masks: run("--source", source, "--masks", masks))
        assert "wanted another folder" in capsys.readouterr().err
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / "a.png").write_bytes(before)
    (tmp_path / "set.txt").write_text("clip/frames/a.png labels/a.png\n")
    _usage_error(lambda: run("--source", tmp_path / "set.txt", "--masks", labels))
    assert (folder / "a.png").read_bytes() == (labels / "a.png").read_bytes() == before
    assert run("--source", tmp_path / "clip", "--masks", tmp_path / "out") == 0


def test_a_video_at_another_rate_than_its_source_is_said(
    run: Callable[..., int], clip: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--source", clip, "-o", tmp_path / "a.webm", "--fps", 5) == 0
    assert "plays at 0.5 times the speed" in capsys.readouterr().err
    assert run("--source", clip, "-o", tmp_path / "b.webm") == 0
    said = capsys.readouterr()
    assert "times the speed" not in said.err
    assert "ms from a frame to its mask (mean of 6), on fake int8" in said.out


@pytest.mark.slow
def test_a_camera_s_recording_that_plays_too_fast_is_said_at_ctrl_c_too(
    fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    words = ["run", fake_bundle, "--board", fake_board, "--source", "fake:size=320x240"]
    words += ["--fps", 30]
    command = [sys.executable, "-m", "edge_seg", *map(str, words), "-o", str(tmp_path / "o.webm")]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        time.sleep(0.1)
        os.kill(running.pid, signal.SIGSTOP)  # a machine that does not keep up
        time.sleep(0.1)
        os.kill(running.pid, signal.SIGCONT)
        for _ in range(8):
            time.sleep(0.6)
            os.kill(running.pid, signal.SIGSTOP)
            time.sleep(0.4)
            os.kill(running.pid, signal.SIGCONT)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=60)[1]
    assert running.returncode == 130
    assert "interrupted" in said and "record with --fps" in said


def test_a_cadence_on_unrelated_pictures_is_said_to_change_nothing(
    run: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), np.full((60, 80, 3), 200, np.uint8))
    assert run("--source", tmp_path / "in", "--masks", tmp_path / "out", "--every", 3) == 0
    assert "change nothing for unrelated pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "module", "remedy"),
    [
        ("eval BUNDLE --labels set.txt", "PIL", 'pip install "edge-seg[convert]"'),
        (
            "run BUNDLE --board BOARD --source fake: --masks out",
            "rich",
            "pip install --force-reinstall .",
        ),
    ],
)
def test_a_missing_package_is_named_with_what_installs_it(
    verb: str, module: str, remedy: str, fake_bundle: Path, fake_board: Path, tmp_path: Path
) -> None:
    """`rich` comes with edge-seg itself: no extra brings it back."""
    paths = {"BUNDLE": str(fake_bundle), "BOARD": str(fake_board)}
    words = [paths.get(word, word) for word in verb.split()]
    program = f"import sys; sys.modules[{module!r}] = None; from edge_seg.cli import main; "
    program += f"sys.exit(main({words!r}))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.returncode == 4, done.stderr
    assert remedy in done.stderr and module in done.stderr


def test_ctrl_c_while_the_verbs_are_loaded_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "build_parser", stopped)
    assert main(["boards"]) == 130
    assert capsys.readouterr().err == "edge-seg: interrupted; nothing was begun\n"


def test_help_is_there_before_numpy_is_loaded() -> None:
    """On a small board NumPy alone takes half a second, in which Ctrl-C would end in its words."""
    program = (
        "import sys; from edge_seg.cli import main\ntry: main(['--help'])\nexcept SystemExit: "
    )
    program += "print('numpy' in sys.modules, 'cv2' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.endswith("False False\n") and "convert" in done.stdout, done.stderr
