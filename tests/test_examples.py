"""The loops to copy: short, and run here as far as there is hardware."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from edge_seg import EdgeSegmenter, Policy
from edge_seg.bundle import DEFAULT_BUNDLE
from edge_seg.camera import Source, fake
from edge_seg.camera.shots import Shot
from edge_seg.spec import InputSpec
from tests.dockerfile import steps

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
LOOPS = ("kiosk.py", "firmware.py", "virtual_camera.py", "mjpeg.py")
FAKE = "fake:size=320x240,fps=15"
pytestmark = pytest.mark.skipif(
    not (DEFAULT_BUNDLE / "manifest.json").exists(), reason="no default network ships here"
)


@pytest.mark.parametrize("name", LOOPS)
def test_a_loop_is_short_and_needs_nothing_but_edge_seg(name: str) -> None:
    text = (EXAMPLES / name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 50
    assert text.startswith('"""') and f"examples/{name}" in text


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds at 5 fps: somebody stands there for two, then an empty room."""
    pytest.importorskip("skimage", reason="the extra [demo] is not installed: no portrait")
    sys.path.insert(0, str(EXAMPLES))
    try:
        cut = load("portraits").portraits()["collins"]
    finally:
        sys.path.remove(str(EXAMPLES))
    room = np.full((480, 640, 3), (120, 140, 150), np.uint8)
    room[330:] = (70, 80, 95)
    there = room.copy()
    person = cv2.resize(cut, (400, 400), interpolation=cv2.INTER_AREA)
    share = person[..., 3:] / 255.0
    there[80:, 120:520] = share * person[..., :3] + (1 - share) * there[80:, 120:520]
    path = tmp_path_factory.mktemp("visit") / "visit.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5.0, (640, 480))
    for i in range(30):
        writer.write(there if i < 10 else room)
    writer.release()
    return path


def test_the_kiosk_shows_who_is_there_and_idles_when_nobody_is(
    visit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kiosk = load("kiosk")
    naps: list[float] = []
    monkeypatch.setattr(kiosk.time, "sleep", naps.append)
    beach = np.full((600, 600, 3), (200, 30, 200), np.uint8)
    shown = list(kiosk.kiosk(visit, beach))[:30]
    assert all(frame.shape == (480, 640, 3) for frame in shown)
    plain = [bool((frame == (200, 30, 200)).all()) for frame in shown]
    assert not any(plain[1:10]) and all(plain[-2:]), "idle three seconds after the last"
    assert 1 <= len(naps) <= 8 and set(naps) == {0.5}
    middle = shown[5][200:400, 260:380].reshape(-1, 3).mean(axis=0)
    corner = shown[5][20:100, 20:100].reshape(-1, 3).mean(axis=0)
    assert np.abs(corner - (200, 30, 200)).max() < 3, "the room is gone"
    assert np.abs(middle - (200, 30, 200)).max() > 60, "the person is not"


def test_the_kiosk_starts_from_the_command_line(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "beach.png"), np.full((60, 80, 3), (200, 30, 200), np.uint8))
    command = [sys.executable, EXAMPLES / "kiosk.py", "fake:fps=15", tmp_path / "beach.png"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert running.stdout is not None and running.stderr is not None
        frames = [running.stdout.read(480 * 640 * 3) for _ in range(3)]
        said = b"" if frames[-1] else running.stderr.read()
    finally:
        running.kill()
        running.communicate(timeout=20)
    assert [len(frame) for frame in frames] == [480 * 640 * 3] * 3, said.decode()
    corner = np.frombuffer(frames[-1], np.uint8).reshape(480, 640, 3)[20:60, 20:60]
    assert np.abs(corner.astype(int) - (200, 30, 200)).max() < 3, "the beach"


def run_example(*words: str | Path, **more: str) -> subprocess.Popen[bytes]:
    """Start an example in which Ctrl-C works, whatever this suite was started with."""
    return subprocess.Popen(
        [sys.executable, EXAMPLES / words[0], *words[1:]],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, **more},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def last_words(running: subprocess.Popen[bytes]) -> str:
    """Wait for the end; return what was said on stderr, but for TensorFlow Lite's greeting."""
    try:
        said = running.communicate(timeout=60)[1].decode().splitlines()
    finally:
        running.kill()
    return "\n".join(line for line in said if not line.startswith("INFO:"))


@pytest.fixture
def beach(tmp_path: Path) -> Path:
    path = tmp_path / "beach.png"
    cv2.imwrite(str(path), np.full((60, 80, 3), (200, 30, 200), np.uint8))
    return path


@pytest.mark.parametrize("name", ["kiosk", "mjpeg"])
def test_ctrl_c_ends_an_example_in_one_sentence(name: str, beach: Path) -> None:
    running = run_example(f"{name}.py", FAKE, beach if name == "kiosk" else "0")
    assert running.stdout is not None
    running.stdout.read(1)  # a frame, the address
    running.send_signal(signal.SIGINT)
    assert last_words(running) == f"{name}: interrupted"
    assert running.returncode == 130


def test_ctrl_c_ends_the_firmware_in_one_sentence(tmp_path: Path) -> None:
    """Nobody comes before the fake camera, so it is ready when it tells systemd so."""
    address = str(tmp_path / "systemd")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        running = run_example("firmware.py", FAKE, NOTIFY_SOCKET=address)
        assert systemd.recv(100) == b"READY=1"
        running.send_signal(signal.SIGINT)
        assert last_words(running) == "firmware: interrupted"
    assert running.returncode == 130


def test_the_kiosk_ends_when_its_window_is_closed(beach: Path) -> None:
    running = run_example("kiosk.py", FAKE, beach)
    assert running.stdout is not None
    running.stdout.read(480 * 640 * 3)
    running.stdout.close()
    running.stdout = None
    assert last_words(running) == "kiosk: the window is closed"
    assert running.returncode == 0


@pytest.mark.parametrize("name", ["kiosk", "mjpeg", "firmware", "virtual_camera"])
def test_an_example_without_its_camera_says_so(name: str, beach: Path) -> None:
    if name == "virtual_camera":
        pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed")
    more = {"kiosk": [beach], "mjpeg": ["0"]}.get(name, [])
    running = run_example(f"{name}.py", "no-such-camera", *more)
    said = last_words(running).splitlines()
    assert running.returncode == 1 and said[-1].startswith(f"{name}: no-such-camera: wanted")
    assert len(said) == 1


@pytest.mark.parametrize("name", ["kiosk", "mjpeg", "firmware", "virtual_camera"])
def test_an_example_that_is_told_nothing_says_how_it_is_called(name: str) -> None:
    if name == "virtual_camera":
        pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed")
    running = run_example(f"{name}.py")
    said = last_words(running)
    assert running.returncode == 1 and "Traceback" not in said
    assert f"python examples/{name}.py " in said


@pytest.mark.parametrize("port", ["http", "99999"])
def test_a_port_that_is_none_is_one_line(port: str) -> None:
    running = run_example("mjpeg.py", FAKE, port)
    said = last_words(running)
    assert running.returncode == 1 and said.startswith("mjpeg: ") and len(said.splitlines()) == 1


def test_the_virtual_camera_without_a_loopback_device_says_so() -> None:
    pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed")
    if list(Path("/dev").glob("video*")):
        pytest.skip("there are video devices here")
    running = run_example("virtual_camera.py", FAKE)
    said = last_words(running)
    assert running.returncode == 1 and "Traceback" not in said
    assert said.startswith("virtual_camera: ") and "v4l2loopback" in said


class Unsure:
    """A segmenter that is sure of the left half, and gives the right one a probability of 0.2."""

    spec = InputSpec(160, 192, fit="stretch")

    def __enter__(self) -> Unsure:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def segment_shot(self, shot: Shot, source: Source, dtype: str) -> np.ndarray:
        mask = np.full(shot.frame.shape[:2], 255, dtype)
        mask[:, mask.shape[1] // 2 :] = 51
        return mask

    def stream(self, source: Source, dtype: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for shot in source:
            yield shot.frame, self.segment_shot(shot, source, dtype)


def test_the_old_room_does_not_shine_through_where_the_network_is_unsure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kiosk = load("kiosk")
    monkeypatch.setattr(kiosk.EdgeSegmenter, "open", lambda **how: Unsure())
    frames = kiosk.kiosk(FAKE, np.full((60, 80, 3), (200, 30, 200), np.uint8))
    shown = next(frames)
    frames.close()
    assert (shown[:, 330:] == (200, 30, 200)).all()
    pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed")
    frames = load("virtual_camera").blurred(FAKE)
    smooth = next(frames)[:, 170:].astype(int)
    frames.close()
    # A blurred picture is enlarged from an eighth and less: neighbours hardly differ.
    assert np.abs(np.diff(smooth, axis=1)).max() <= 12


def test_the_kiosk_asks_a_camera_for_the_small_stream_the_network_wants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kiosk = load("kiosk")
    asked: list[object] = []
    real = kiosk.open_source

    def open_source(name: str, **how: object) -> Source:
        asked.append(how["lores"])
        return real(name, **how)

    monkeypatch.setattr(kiosk, "open_source", open_source)
    monkeypatch.setattr(kiosk.EdgeSegmenter, "open", lambda **how: Unsure())
    frames = kiosk.kiosk(FAKE, np.full((60, 80, 3), (200, 30, 200), np.uint8))
    next(frames)
    frames.close()
    assert asked == [(160, 192)]


def test_the_firmware_speaks_to_systemd_and_ends_on_sigterm(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(60)
        running = subprocess.Popen(
            [sys.executable, EXAMPLES / "firmware.py", f"{FAKE},unplug=2+30"],
            env={**os.environ, "NOTIFY_SOCKET": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            said = [systemd.recv(100).decode()]
            assert said == ["READY=1"]
            while said[-1] != "STATUS=no camera":
                said.append(systemd.recv(100).decode())
            assert said.count("WATCHDOG=1") > 5
        finally:
            running.send_signal(signal.SIGTERM)
            _, errors = running.communicate(timeout=20)
    assert running.returncode == 0 and "Traceback" not in errors


@pytest.fixture
def page() -> Iterator[str]:
    """The address of the running MJPEG example."""
    command = [sys.executable, str(EXAMPLES / "mjpeg.py"), FAKE, "0"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    try:
        yield running.stdout.readline().strip()
    finally:
        running.send_signal(signal.SIGINT)
        try:
            running.wait(timeout=20)
        finally:
            running.kill()  # a suite started with SIGINT ignored hands that on


def test_a_browser_gets_one_jpeg_after_the_other(page: str) -> None:
    assert page.startswith("http://127.0.0.1:")
    with urllib.request.urlopen(page, timeout=60) as answer:
        assert "multipart/x-mixed-replace" in answer.headers["Content-Type"]
        pictures = []
        for _ in range(3):
            assert answer.readline() == b"--frame\r\n"
            assert answer.readline() == b"Content-Type: image/jpeg\r\n"
            length = int(answer.readline().split(b":")[1])
            answer.readline()
            data = np.frombuffer(answer.read(length), np.uint8)
            pictures.append(cv2.imdecode(data, cv2.IMREAD_COLOR))
            answer.readline()
    assert all(p.shape == (240, 320, 3) for p in pictures)
    assert np.abs(pictures[0].astype(int) - pictures[2]).max() > 20, "somebody moves in it"


@pytest.mark.slow
def test_a_real_browser_shows_it(page: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        pytest.skip("no chromium; .ci/packages installs it")
    shot = tmp_path / "page.png"
    # A stream never ends loading: the picture is taken after so many milliseconds.
    subprocess.run(
        [
            *(browser, "--headless", "--no-sandbox", "--disable-gpu", f"--screenshot={shot}"),
            *("--window-size=400,300", "--timeout=8000", f"--user-data-dir={tmp_path / 'profile'}"),
            page,
        ],
        capture_output=True,
        timeout=90,
    )
    assert shot.exists(), "the browser took no picture"
    seen = cv2.imread(str(shot))
    wall = fake.scene(240, 320, 0.0)[20, 20]
    near = np.abs(seen.astype(int) - wall).max(axis=2) < 30
    assert near.mean() > 0.2, "the fake camera's wall covers much of the page"


def test_the_virtual_camera_gets_frames() -> None:
    pytest.importorskip("pyvirtualcam", reason="pyvirtualcam is not installed")
    frames = list(itertools.islice(load("virtual_camera").blurred(FAKE), 3))
    assert frames[0].shape == (240, 320, 3)
    if not list(Path("/dev").glob("video*")):
        pytest.skip("no loopback device: only the frames were made")


def test_the_unit_is_one_systemd_takes(tmp_path: Path) -> None:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("no systemd-analyze here")
    text = (EXAMPLES / "edge-seg.service").read_text(encoding="utf-8")
    assert "Type=notify" in text and "WatchdogSec=" in text and "Restart=always" in text
    unit = tmp_path / "edge-seg.service"
    unit.write_text(text.replace("/home/pi/edge-seg/bin/python", "/usr/bin/true"))
    done = subprocess.run([tool, "verify", unit], capture_output=True, text=True)
    assert done.returncode == 0 and "edge-seg" not in done.stderr, done.stderr


def test_the_program_in_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "cameras.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(compile(program, "cameras.md", "exec"), {"__name__": "cameras"})
    assert "(320, 240, 3) (320, 240)" in capsys.readouterr().out


def test_the_rehearsal_in_the_docs_breaks_and_mends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    (program,) = (p for p in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "fake" in p)
    (board,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "operations.md", "exec"), {"__name__": "operations"})
    device = tmp_path / "npu"
    assert "/tmp/npu" in board
    Path("board.toml").write_text(board.replace("/tmp/npu", str(device)))
    device.touch()
    picture = np.full((240, 320, 3), 200, np.uint8)
    policy = Policy(return_after=0.1)
    with EdgeSegmenter.open("rehearsal", board="board.toml", policy=policy) as segmenter:
        assert segmenter.artifact is not None and segmenter.artifact.name == "fake-int8"
        assert segmenter.segment(picture).min() > 0.9, "what is bright is a person"
        device.unlink()
        segmenter.segment(picture)
        assert segmenter.degraded and segmenter.artifact.name == "tflite-int8"
        device.touch()
        until = time.monotonic() + 20
        while segmenter.degraded and time.monotonic() < until:
            segmenter.segment(picture)
        assert segmenter.artifact.name == "fake-int8" and segmenter.counters.returns == 1


DOCKERFILE = EXAMPLES / "Dockerfile"


def test_the_dockerfile_is_clean_and_copies_what_there_is() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    copied = [words for name, words in steps(text) if name == "COPY"]
    assert copied and all((ROOT / source).exists() for words in copied for source in words[:-1])
    tool = shutil.which("hadolint", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if tool is None:
        pytest.skip("no hadolint (the extra [dev] brings it); only the COPY lines were looked at")
    done = subprocess.run([tool, DOCKERFILE], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "line", ["ADD a b", "RUN --network=none true", 'RUN ["true"]', "COPY --chown=1 a b", "COPY * b"]
)
def test_a_dockerfile_step_that_would_not_be_run_is_named(line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)):
        steps(f"FROM debian:bookworm-slim\n{line}\n")


def test_the_steps_of_the_dockerfile_are_read_whole() -> None:
    read = steps(DOCKERFILE.read_text(encoding="utf-8"))
    assert read[0] == ("FROM", ["bookworm"]) and read[-1] == ("CMD", ["doctor"])
    assert [words[0].split()[0] for name, words in read if name == "RUN"] == [
        *("apt-get", "python3", "useradd")
    ]
    assert "gstreamer1.0-plugins-bad" in read[1][1][0], "a continued line is one command"
