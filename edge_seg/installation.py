"""A Python and what is installed for it, as its files tell: the running one, or another root's.

Nothing is imported and nothing is run, so a broken library cannot break the examination, and a
root file system copied from a board can be examined on another machine.
"""

from __future__ import annotations

import getpass
import grp
import os
import re
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from edge_seg.machine import read_text

TRIPLETS = {  # Debian's folder of libraries -> the wheels' name of the machine
    "aarch64-linux-gnu": "aarch64",
    "arm-linux-gnueabihf": "armv7l",
    "x86_64-linux-gnu": "x86_64",
}
UNKNOWN = "unknown"  # the machine of a root without such a folder


@dataclass(frozen=True)
class Installation:
    """One Python.

    python: (3, 11). machine: "aarch64", "armv7l", "x86_64" or what else it says, "unknown" where
    its files do not tell. prefix: its folder. venv: it is a virtual environment; sees_system: it
    sees the system's packages. packages: distribution, in lower case -> version. user, groups: who
    runs it. frozen: it is inside a program that PyInstaller, or a tool like it, made.
    """

    python: tuple[int, int]
    machine: str
    prefix: Path
    venv: bool
    sees_system: bool
    packages: Mapping[str, str]
    user: str
    groups: frozenset[str]
    frozen: bool = False

    @classmethod
    def here(cls) -> Installation:
        """Return the running Python."""
        venv = sys.prefix != sys.base_prefix
        settings = _settings(Path(sys.prefix) / "pyvenv.cfg") if venv else {}
        return cls(
            python=sys.version_info[:2],
            machine=_running_machine(),
            prefix=Path(sys.prefix),
            venv=venv,
            sees_system=not venv or settings.get("include-system-site-packages") == "true",
            packages=_packages(sys.path),
            user=_user(),
            groups=_groups(),
            frozen=is_frozen(),
        )

    @classmethod
    def under(cls, root: Path) -> Installation:
        """Return the Python under a root: the first virtual environment in a home, else /usr's.

        A root without any is an Installation of Python (0, 0).
        """
        config = next(iter(sorted(root.glob("home/*/*/pyvenv.cfg"))), None)
        settings = _settings(config) if config is not None else {}
        version = settings.get("version") or _system_python(root)
        found = re.match(r"(\d+)\.(\d+)", version)
        python = (int(found[1]), int(found[2])) if found else (0, 0)
        prefix = root / "usr" if config is None else config.parent
        sees = config is None or settings.get("include-system-site-packages") == "true"
        named = f"python{python[0]}.{python[1]}"
        folders = [prefix / "lib" / named / "site-packages"]
        if sees:
            folders += [root / "usr/lib/python3/dist-packages", root / "usr/lib" / named]
            folders += [root / "usr/lib" / named / "dist-packages"]
            folders += [root / "usr/local/lib" / named / "dist-packages"]
            folders += [root / "usr/local/lib" / named / "site-packages"]
        user = "root" if config is None else config.parent.parent.name
        return cls(
            python=python,
            machine=_root_machine(root),
            prefix=prefix,
            venv=config is not None,
            sees_system=sees,
            packages=_packages(str(f) for f in folders),
            user=user,
            groups=frozenset(_groups_of(user, root)),
        )

    def __str__(self) -> str:
        kind = "a virtual environment" if self.venv else "the system's Python"
        kind = "in a frozen program" if self.frozen else kind
        system = ", with the system's packages" if self.venv and self.sees_system else ""
        machine = "a machine its files do not name" if self.machine == UNKNOWN else self.machine
        return f"Python {self.python[0]}.{self.python[1]} for {machine}, {kind}{system}"

    @property
    def absent(self) -> bool:
        """True where there is no system at all: no Python, no libraries, no package."""
        return self.python == (0, 0) and self.machine == UNKNOWN and not self.packages

    def has(self, package: str) -> bool:
        """True where a distribution is installed."""
        return package in self.packages


def is_frozen() -> bool:
    """True in a program that PyInstaller, or a tool like it, made: it has what it was built with
    and no pip (`sys.frozen`, PyInstaller's manual, "Run-time Information").
    """
    return bool(getattr(sys, "frozen", False))


def _settings(config: Path) -> dict[str, str]:
    """Read a pyvenv.cfg: lines of `key = value`."""
    pairs = (line.partition("=") for line in read_text(config).splitlines())
    return {key.strip().lower(): value.strip() for key, _, value in pairs}


def _packages(folders: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions(path=[f for f in folders if f]):
        try:
            name, version = distribution.metadata["Name"], distribution.version
        except (KeyError, OSError, ValueError):  # a dist-info without METADATA is none
            continue
        if name:
            found.setdefault(str(name).lower().replace("_", "-"), str(version))
    return found


def _running_machine() -> str:
    """The wheels' name: a 32-bit Python on a 64-bit kernel takes 32-bit wheels."""
    machine = os.uname().machine
    return "armv7l" if machine == "aarch64" and struct.calcsize("P") == 4 else machine


def _root_machine(root: Path) -> str:
    for folder, machine in TRIPLETS.items():
        if (root / "usr/lib" / folder).is_dir():
            return machine
    return UNKNOWN


def _system_python(root: Path) -> str:
    versions = [p.name.removeprefix("python") for p in (root / "usr/bin").glob("python3.*")]
    versions += [p.name.removeprefix("python") for p in (root / "usr/local/bin").glob("python3.*")]
    whole = [v for v in versions if re.fullmatch(r"3\.\d+", v)]
    return max(whole, key=lambda v: int(v[2:]), default="")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid())


def _groups() -> frozenset[str]:
    names = set()
    for number in {*os.getgroups(), os.getegid()}:
        try:
            names.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return frozenset(names)


def _groups_of(user: str, root: Path) -> set[str]:
    rows = (line.split(":") for line in read_text(root / "etc/group").splitlines())
    return {row[0] for row in rows if len(row) == 4 and user in row[3].split(",")}
