"""A folder with Debian 13's libcamera in it, in which picamera2 itself runs on a virtual camera.

Made once, about a minute and 600 MB, under EDGE_SEG_CACHE; needs root (chroot), mmdebstrap, a C
compiler, Python 3.13 and a network. libcamera's "virtual" pipeline gives frames without a sensor.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.test_packaging import interpreter

ROOT = Path(__file__).parent.parent
PARTS = Path(__file__).parent / "fixtures" / "picamera2"
SUITE = "trixie"  # the first Debian whose libcamera has the virtual pipeline
PACKAGES = "python3,python3-libcamera,python3-prctl,libstdc++6,zlib1g"
# --no-deps: what picamera2 imports, without OpenEXR and the graphical parts.
WHEELS = (
    *("picamera2==0.3.38", "pidng", "simplejpeg", "videodev2", "libarchive-c", "piexif", "av"),
    *("tqdm", "jsonschema", "pillow", "numpy", "opencv-python-headless"),
    *("ai-edge-litert", "flatbuffers", "backports.strenum"),
)
SECONDS = 60  # of one check; libcamera's virtual camera hangs at times


def picamera2_root() -> Path:
    """Return the folder; skip, with the reason, where it cannot be had."""
    _skip_unless(platform.machine() == "x86_64", "made for x86-64 only")
    _skip_unless(hasattr(os, "geteuid") and os.geteuid() == 0, "chroot needs root")
    for tool in ("mmdebstrap", "cc"):
        _skip_unless(shutil.which(tool) is not None, f"no {tool}; .ci/packages installs it")
    python = interpreter("3.13")
    recipe = repr((SUITE, PACKAGES, WHEELS)) + "".join(
        path.read_text(encoding="utf-8") for path in sorted(PARTS.iterdir()) if path.is_file()
    )
    cache = Path(os.environ.get("EDGE_SEG_CACHE", Path.home() / ".cache" / "edge-seg"))
    root = cache / f"picamera2-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not root.is_dir():
        part = root.with_suffix(f".{os.getpid()}.part")
        try:
            _make(part, python)
            part.rename(root)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return root


def _make(root: Path, python: str) -> None:
    root.parent.mkdir(parents=True, exist_ok=True)
    _run("mmdebstrap", "--variant=extract", "--mode=root", f"--include={PACKAGES}", SUITE, root)
    for name in ("lib", "lib64", "bin"):  # base-files' links, which are not unpacked
        if not (root / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    site = root / "opt" / "site"
    _run(python, "-m", "pip", "install", "-q", "--no-deps", "--target", site, *WHEELS)
    _run(
        "cc", "-shared", "-fPIC", "-O1", "-o", root / "opt" / "heaps.so", PARTS / "heaps.c", "-ldl"
    )
    shutil.copy(PARTS / "pykms.py", site)
    virtual = root / "usr" / "share" / "libcamera" / "pipeline" / "virtual"
    virtual.mkdir(parents=True)
    shutil.copy(PARTS / "virtual.yaml", virtual)
    for name in (
        "proc/cpuinfo",
        "sys/devices/system/cpu/possible",
        "sys/devices/system/cpu/present",
    ):
        (root / name).parent.mkdir(
            parents=True, exist_ok=True
        )  # LiteRT is 100 times slower without
        (root / name).write_bytes((Path("/") / name).read_bytes())


def on_virtual_camera(root: Path, what: str) -> dict[str, Any]:
    """Run one check of fixtures/picamera2/on_virtual_camera.py, in a process of its own."""
    ours = root / "opt" / "edge-seg"
    shutil.rmtree(ours, ignore_errors=True)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "edge_seg", ours / "edge_seg", ignore=ignored)
    shutil.copytree(ROOT / "boards", ours / "edge_seg" / "boards", ignore=ignored)
    shutil.copy(PARTS / "on_virtual_camera.py", root / "opt")

    def enter() -> None:
        os.chroot(root)
        os.chdir("/")

    environment = {
        "PYTHONPATH": "/opt/site:/opt/edge-seg",
        "LD_PRELOAD": "/opt/heaps.so",
        "LIBCAMERA_LOG_LEVELS": "*:ERROR",
        "HOME": "/tmp",
    }
    command = ["/usr/bin/python3", "/opt/on_virtual_camera.py", what]
    for attempt in (1, 2, 3):
        try:
            done = subprocess.run(
                command,
                preexec_fn=enter,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=SECONDS,
            )
            break
        except subprocess.TimeoutExpired:
            if attempt == 3:
                raise
            print(f"{what}: no answer in {SECONDS} s; again", file=sys.stderr)
    assert done.returncode == 0, done.stderr[-3000:]
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _skip_unless(condition: bool, reason: str) -> None:
    if not condition:
        pytest.skip(reason)


def _run(*command: str | Path) -> None:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        pytest.skip(f"{command[0]} failed: {done.stderr[-300:]}")
