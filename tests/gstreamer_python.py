"""A Python that has GStreamer's bindings, as a board would: the system's, and edge-seg's packages.

Debian's python3-gi belongs to Debian's Python, so the environment is made from that one, with
--system-site-packages, under EDGE_SEG_CACHE; half a minute, once.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PARTS = Path(__file__).parent / "fixtures" / "gstreamer"
PACKAGES = ("numpy", "opencv-python-headless", "ai-edge-litert", "rich")
ASK = "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')"


def gstreamer_python() -> Path:
    """Return it; skip, with the reason, where there is none."""
    system = "/usr/bin/python3"
    if not Path(system).exists():
        pytest.skip(f"no {system}: GStreamer's bindings belong to the system's Python")
    asked = subprocess.run([system, "-c", ASK], capture_output=True, text=True)
    if asked.returncode != 0:
        pytest.skip(f"{asked.stderr.strip().splitlines()[-1]}; .ci/packages installs it")
    cache = Path(os.environ.get("EDGE_SEG_CACHE", Path.home() / ".cache" / "edge-seg"))
    name = hashlib.sha256(repr(PACKAGES).encode()).hexdigest()[:12]
    folder = cache / f"gstreamer-{name}"
    done = folder / "complete"
    if not done.exists():
        shutil.rmtree(folder, ignore_errors=True)
        for command in (
            [system, "-m", "venv", "--system-site-packages", str(folder)],
            [str(folder / "bin" / "pip"), "install", "-q", *PACKAGES],
        ):
            made = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if made.returncode != 0:
                pytest.skip(f"{' '.join(command[:3])} failed: {made.stderr[-300:]}")
        done.touch()
    return folder / "bin" / "python"


def on_gstreamer(python: Path, *what: str) -> Any:
    """Run one check of fixtures/gstreamer/on_gstreamer.py; return what it printed."""
    done = subprocess.run(
        [str(python), str(PARTS / "on_gstreamer.py"), *what],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
