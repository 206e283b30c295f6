"""The steps of examples/Dockerfile, read for .ci/dockerfile, which runs them without Docker.

    python tests/dockerfile.py examples/Dockerfile     one line of shell per step: NAME 'word'...

Only the instructions that file uses are understood, in the one form it uses them in.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

FORMS = {
    "FROM": r"debian:(\w+)-slim",
    "WORKDIR": r"(/\S*)",
    "USER": r"(\d+)",
    "RUN": r"([^-\[].*)",
    "COPY": r"([^-\[*?$]+)",
    "ENTRYPOINT": r"(\[.*\])",
    "CMD": r"(\[.*\])",
}


def steps(text: str) -> list[tuple[str, list[str]]]:
    """Return each instruction's name and its words: FROM's Debian suite, RUN's one command,
    COPY's sources and target, the words of ENTRYPOINT's and CMD's JSON.

    Raises ValueError for an instruction, or a form of one, that is not in FORMS.
    """
    kept = [
        line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")
    ]
    found = []
    for line in "\n".join(kept).replace("\\\n", "").splitlines():
        name, _, rest = line.partition(" ")
        rest = rest.strip()
        form = re.fullmatch(FORMS.get(name, r"(?!)"), rest)
        if form is None:
            known = ", ".join(FORMS)
            raise ValueError(f"wanted {known}, each in its form in FORMS, found: {line}; add it")
        if name in ("ENTRYPOINT", "CMD"):
            words = json.loads(form[1])
        else:
            words = form[1].split() if name == "COPY" else [form[1]]
        found.append((name, words))
    return found


if __name__ == "__main__":
    for name, words in steps(Path(sys.argv[1]).read_text(encoding="utf-8")):
        print(name, shlex.join(words))
