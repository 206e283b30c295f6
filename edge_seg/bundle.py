"""A bundle: a directory that holds a network for every library we drive, and what is true of it.

    BUNDLE/manifest.json       format version, input and output spec, one entry per artifact
    BUNDLE/<artifact file>     one file per library and precision (OpenVINO: .xml, and its .bin)

A bundle is written whole or not at all (edge_seg/staging.py). It comes from outside: sizes are
checked before memory is taken, no path leaves the directory, and an artifact is handed out only if
its sha256 is the manifest's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edge_seg.errors import BundleError
from edge_seg.files import sha256_of, write_whole
from edge_seg.spec import InputSpec, OutputSpec, take, take_choice

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 1 << 20
MAX_ARTIFACT_BYTES = 512 << 20  # the largest network a small board could hold in memory
MAX_ARTIFACTS = 64
MAX_PARTS = 4
MAX_INTEGER = 1 << 64  # of the facts about an artifact; far larger ones are no float
MAX_NAME = 255  # characters: as long as a file name
FORMATS = ("tflite", "onnx", "openvino", "fake")
PRECISIONS = ("fp32", "fp16", "int8", "int8-mixed")
SHIPPED = Path(__file__).parent / "models"  # the networks that ship, one folder each
DEFAULT_BUNDLE = SHIPPED / "portrait"


@dataclass(frozen=True)
class Part:
    """A file of an artifact beside its first one. file: relative to the bundle; size: bytes."""

    file: str
    sha256: str
    size: int

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Part:
        """Read one; BundleError names what is wrong."""
        if not isinstance(data, dict):
            raise BundleError(f"{where}: wanted an object per file, found {data!r:.60}")
        return cls(
            file=_inner_name(take(data, "file", str, where), where),
            sha256=_digest(take(data, "sha256", str, where), where),
            size=_size(take(data, "size", int, where), where),
        )


@dataclass(frozen=True)
class Artifact:
    """One network for one library: a file, and with it the files that belong to it.

    format: "tflite" | "onnx" | "openvino" | "fake". precision: "fp32" | "fp16" | "int8" |
    "int8-mixed". file: name relative to the bundle. sha256: hex digest of the file.
    size: bytes. made: tools, versions, calibration hash, notes. quality: measured figures
    (fractions, as edge_seg/metrics.py defines them) and what they were measured on.
    parts: further files, such as the .bin of OpenVINO's .xml. latency: milliseconds of a bare
    call, and the machine they were measured on; of no other machine.
    """

    format: str
    precision: str
    file: str
    sha256: str
    size: int
    made: dict[str, Any] = field(default_factory=dict)
    quality: dict[str, Any] = field(default_factory=dict)
    parts: tuple[Part, ...] = ()
    latency: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """`<format>-<precision>`, as tables and `--artifact` spell it."""
        return f"{self.format}-{self.precision}"

    @property
    def files(self) -> tuple[Part, ...]:
        """Every file of the artifact, its first one first."""
        return (Part(self.file, self.sha256, self.size), *self.parts)

    @property
    def total_size(self) -> int:
        """Bytes of all its files."""
        return sum(part.size for part in self.files)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return {
            "format": self.format,
            "precision": self.precision,
            "file": self.file,
            "sha256": self.sha256,
            "size": self.size,
            **({"parts": [asdict(part) for part in self.parts]} if self.parts else {}),
            "made": self.made,
            "quality": self.quality,
            **({"latency": self.latency} if self.latency else {}),
        }

    @classmethod
    def from_dict(cls, data: Any, where: str) -> Artifact:
        """Read what `to_dict` wrote; BundleError names what is wrong."""
        if not isinstance(data, dict):
            raise BundleError(f"{where}: wanted an object per artifact, found {data!r:.60}")
        first = Part.from_dict(data, where)
        return cls(
            format=take_choice(data, "format", FORMATS, where),
            precision=take_choice(data, "precision", PRECISIONS, where),
            file=first.file,
            sha256=first.sha256,
            size=first.size,
            made=_facts(data, "made", where),
            quality=_facts(data, "quality", where),
            parts=_parts(data, first.file, where),
            latency=_facts(data, "latency", where) if "latency" in data else {},
        )


def _facts(data: dict[str, Any], key: str, where: str) -> dict[str, Any]:
    """Return an object whose numbers can be reckoned with, at any depth."""
    facts: dict[str, Any] = take(data, key, dict, where)
    left: list[Any] = [facts]
    while left:
        value = left.pop()
        if isinstance(value, (dict, list)):
            left.extend(value.values() if isinstance(value, dict) else value)
        elif isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise BundleError(
                f"{where}: wanted numbers of up to 2^64 in {key!r}, found {value!r:.40}; "
                "correct that entry"
            )
    return facts


def _parts(data: dict[str, Any], first: str, where: str) -> tuple[Part, ...]:
    entries = take(data, "parts", list, where) if "parts" in data else []
    if len(entries) > MAX_PARTS:
        raise BundleError(f"{where}: wanted at most {MAX_PARTS} parts, found {len(entries)}")
    parts = tuple(Part.from_dict(e, f"{where} parts[{i}]") for i, e in enumerate(entries))
    names = [first, *(part.file for part in parts)]
    if len(set(names)) != len(names):
        raise BundleError(f"{where}: wanted every file of an artifact once, found {names!r:.200}")
    return parts


def _inner_name(name: str, where: str) -> str:
    parts = PurePosixPath(name).parts
    safe = name and name.isprintable() and "\\" not in name and ".." not in parts
    if not safe or name.startswith("/") or len(name) > 200 or name == MANIFEST:
        raise BundleError(
            f"{where}: wanted a file name inside the bundle, found {name!r:.80}; "
            "this bundle was not written by edge-seg: do not use it"
        )
    return name


def _digest(digest: str, where: str) -> str:
    if len(digest) != 64 or not all(c in "0123456789abcdef" for c in digest):
        raise BundleError(f"{where}: wanted sha256 as 64 hex digits, found {digest!r:.80}")
    return digest


def _size(size: int, where: str) -> int:
    if not 0 < size <= MAX_ARTIFACT_BYTES:
        raise BundleError(
            f"{where}: wanted an artifact of 1..{MAX_ARTIFACT_BYTES} bytes, found {size!r:.40}"
        )
    return size


def _name(name: str, where: str) -> str:
    """Return a bundle's name, which messages quote, if it is of a length to be quoted."""
    if len(name) > MAX_NAME:
        raise BundleError(
            f"{where}: wanted 'name' of up to {MAX_NAME} characters, found {len(name)}"
        )
    return name


@dataclass(frozen=True)
class ModelBundle:
    """A loaded manifest and the directory it came from.

    path: that directory. input, output: what the network takes and returns. artifacts: one per
    library and precision. source: the model it was converted from.

    >>> bundle = ModelBundle.load("my-bundle")            # doctest: +SKIP
    >>> artifact = bundle.find("tflite", "int8")          # doctest: +SKIP
    >>> bundle.file(artifact)                             # verified path  # doctest: +SKIP
    """

    path: Path
    name: str
    input: InputSpec
    output: OutputSpec
    artifacts: tuple[Artifact, ...]
    source: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path | None = None) -> ModelBundle:
        """Read `path/manifest.json`; None means the default network that ships.

        path: a folder; if there is no such folder, the name of a network that ships.

        Raises BundleError: not a bundle, truncated, from a newer format, or unsafe.
        """
        folder = locate(path)
        data = _read_manifest(folder, is_default=path is None)
        where = str(folder / MANIFEST)
        version = take(data, "format_version", int, where)
        if version > FORMAT_VERSION:
            raise BundleError(
                f"{where}: wanted bundle format {FORMAT_VERSION} or older, found {version!r:.40}; "
                "upgrade edge-seg, or convert the model again with this version"
            )
        if version < 1:
            raise BundleError(
                f"{where}: wanted a bundle format of 1 or more, found {version!r:.40}"
            )
        entries = take(data, "artifacts", list, where)
        if not 1 <= len(entries) <= MAX_ARTIFACTS:
            raise BundleError(f"{where}: wanted 1..{MAX_ARTIFACTS} artifacts, found {len(entries)}")
        artifacts = tuple(
            Artifact.from_dict(e, f"{where} artifacts[{i}]") for i, e in enumerate(entries)
        )
        names = [a.name for a in artifacts]
        if len(set(names)) != len(names):
            raise BundleError(
                f"{where}: wanted one artifact per format and precision: {names!r:.200}"
            )
        return cls(
            path=folder,
            name=_name(take(data, "name", str, where), where),
            input=InputSpec.from_dict(take(data, "input", dict, where), f"{where} input"),
            output=OutputSpec.from_dict(take(data, "output", dict, where), f"{where} output"),
            artifacts=artifacts,
            source=take(data, "source", dict, where),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the manifest as plain JSON types."""
        return {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "input": self.input.to_dict(),
            "output": self.output.to_dict(),
            "source": self.source,
            "artifacts": [a.to_dict() for a in self.artifacts],
        }

    def find(self, format: str, precision: str) -> Artifact:
        """Return the artifact of that format and precision, or raise BundleError."""
        for artifact in self.artifacts:
            if (artifact.format, artifact.precision) == (format, precision):
                return artifact
        have = ", ".join(a.name for a in self.artifacts)
        raise BundleError(
            f"bundle {self.name!r}: wanted {format}-{precision}, found only {have}; "
            f"name one of these, or {_another(format)}"
        )

    def named(self, name: str) -> Artifact:
        """Return the artifact called `<format>-<precision>`, or raise BundleError."""
        format, _, precision = name.partition("-")
        if format in FORMATS and precision in PRECISIONS:
            return self.find(format, precision)
        raise BundleError(
            f"bundle {self.name!r}: wanted an artifact's name, <format>-<precision>, found "
            f"{name!r:.80}; name one of those it holds: {', '.join(a.name for a in self.artifacts)}"
        )

    def file(self, artifact: Artifact) -> Path:
        """Return the path of an artifact's first file after checking size and sha256 of all.

        Raises BundleError: missing, truncated, edited, a link that leaves the bundle, or no
        Artifact.
        """
        if not isinstance(artifact, Artifact):
            raise BundleError(
                f"wanted an Artifact of the bundle, found {artifact!r:.60}; named() gives the one "
                "of a name"
            )
        for part in artifact.files:
            path = self.path / part.file
            try:
                self._check(path, part)
            except OSError as error:
                raise BundleError(
                    f"{path}: wanted to read an artifact, found: {error.strerror or error}; "
                    "check the file's permissions and the disk"
                ) from error
        return self.path / artifact.file

    def _check(self, path: Path, part: Part) -> None:
        again = "copy the bundle again, or convert the model again"
        if not path.is_file():
            raise BundleError(f"{path}: wanted an artifact, found no such file; {again}")
        if not path.resolve().is_relative_to(self.path.resolve()):
            raise BundleError(f"{path}: wanted a file inside the bundle, found a link out of it")
        size = path.stat().st_size
        if size != part.size:
            raise BundleError(
                f"{path}: wanted {part.size} bytes, found {size} (truncated?); {again}"
            )
        digest = sha256_of(path)
        if digest != part.sha256:
            raise BundleError(
                f"{path}: wanted sha256 {part.sha256[:12]}..., found {digest[:12]}...: "
                f"the file was changed after it was measured; {again}"
            )

    def verify(self) -> list[str]:
        """Check every artifact; return one sentence per problem, [] when all is well."""
        problems = []
        for artifact in self.artifacts:
            try:
                self.file(artifact)
            except BundleError as error:
                problems.append(str(error))
        return problems


def _another(format: str) -> str:
    """Say how a bundle comes to an artifact of a format."""
    if format == "fake":  # no converter writes it
        return "make a bundle to rehearse with (docs/operations.md)"
    how = f" with --to {format}" if format in FORMATS else ""
    return f"convert the model again{how}"


def locate(path: str | Path | None) -> Path:
    """Return a bundle's folder: the default network's, `path`, or that of a shipped one's name.

    Raises BundleError where the disk cannot say whether there is such a folder.
    """
    if path is None:
        return DEFAULT_BUNDLE
    if not isinstance(path, (str, os.PathLike)):
        raise BundleError(f"wanted a bundle's folder or name, found {path!r:.60}")
    folder = Path(path)
    try:
        folder.stat()
        return folder
    except (FileNotFoundError, NotADirectoryError):
        return SHIPPED / folder if str(path) in shipped() else folder
    except (OSError, ValueError) as error:  # a folder one may not enter, a name that is none
        found = getattr(error, "strerror", None) or error
        raise BundleError(
            f"{str(path)!r:.200}: wanted a bundle, found: {found}; check the path, and that this "
            "user may read it"
        ) from error


def shipped() -> list[str]:
    """Return the names of the networks that ship."""
    return sorted(file.parent.name for file in SHIPPED.glob(f"*/{MANIFEST}"))


def _read_manifest(folder: Path, *, is_default: bool) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        if is_default:
            raise BundleError(
                f"wanted the network that ships, found none in {folder}; a zip or a frozen program "
                "has to hold edge-seg's data as files (PyInstaller: --collect-all edge_seg); or "
                "name a bundle made by `edge-seg convert`"
            )
        if folder.is_file() and (folder.parent / MANIFEST).is_file():
            raise BundleError(
                f"{folder}: wanted a bundle, found a file of one; name its folder: {folder.parent}"
            )
        what = "no such folder" if not folder.exists() else "a file"
        what = f"no {MANIFEST} in it" if folder.is_dir() else what
        raise BundleError(
            f"{folder}: wanted a bundle, found {what}; make one with `edge-seg convert`, or name "
            f"one that ships: {', '.join(shipped()) or 'none does'}"
        )
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"{path}: wanted a manifest under {MAX_MANIFEST_BYTES} bytes")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BundleError(
            f"{path}: wanted JSON, found: {error}; the bundle is damaged, copy it again"
        ) from error
    if not isinstance(data, dict):
        raise BundleError(f"{path}: wanted a JSON object, found {type(data).__name__}")
    return data


def describe(
    path: Path,
    *,
    format: str,
    precision: str,
    beside: Sequence[Path] = (),
    **facts: Any,
) -> Artifact:
    """Return the Artifact entry of a file that lies in a bundle's directory.

    beside: further files that belong to it. facts: `made` and `quality`.
    Raises BundleError where a file is empty or too large.
    """
    first, *rest = (
        Part(p.name, sha256_of(p), _size(p.stat().st_size, str(p))) for p in (path, *beside)
    )
    return Artifact(format, precision, **asdict(first), parts=tuple(rest), **facts)


def save_manifest(bundle: ModelBundle) -> None:
    """Write `bundle.path/manifest.json` through a temporary name."""
    write_whole(bundle.path / MANIFEST, json.dumps(bundle.to_dict(), indent=2) + "\n")
