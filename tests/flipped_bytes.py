"""Model files with bytes flipped, opened and run in a process of their own with little memory.

A crash there would be a crash on a board.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

SCRIPT = textwrap.dedent("""
    import random, resource, sys
    from pathlib import Path
    import numpy as np
    from edge_seg.backends import open_backend
    from edge_seg.errors import EdgeSegError
    resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
    name, path, first = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    whole, bad = path.read_bytes(), path.with_name("bad" + path.suffix)
    chance = random.Random(0)
    refused = ran = 0
    for number in range(400):
        content = bytearray(whole)
        for _ in range(chance.choice([1, 1, 2, 8])):
            content[chance.randrange(first, len(content))] = chance.randrange(256)
        bad.write_bytes(bytes(content))
        print(number, flush=True)
        try:
            backend = open_backend(name, bad)
            backend.infer(np.zeros(backend.input.shape, backend.input.dtype))
            ran += 1
        except EdgeSegError:
            refused += 1
    print("refused", refused, "ran", ran)
""")


def opened(backend: str, whole: Path, *, first: int = 0) -> tuple[int, int]:
    """Return how many of 400 files were refused in a sentence, and how many ran.

    first: the bytes before it stay as they are.
    """
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, backend, str(whole), str(first)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, (done.stdout[-40:], done.stderr[-2000:])
    words = done.stdout.split()
    return int(words[-3]), int(words[-1])
