"""What made an artifact and what is in it: `manifest.json`, written last."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlctl.digests import Json, digest, file_digest, jsonable
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.fingerprint import FORMAT, Identity, SourceFile
from mlctl.errors import ArtifactDamaged

FILE_NAME = "manifest.json"


@dataclass(frozen=True)
class StoredFile:
    """A file of the artifact, by its path within the folder."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Input:
    """An artifact that this one was made from, and a digest of its files as they were then."""

    role: str
    step: str
    fingerprint: str
    content: str


@dataclass(frozen=True)
class Made:
    """Where, when, by what and for what an artifact was made."""

    recipe: str
    mlctl: str
    started: str
    """UTC, ISO 8601."""
    seconds: float
    resumed: bool
    host: str
    platform: str
    python: str
    versions: Mapping[str, str]
    threads: int
    choices: Mapping[str, str]
    """What the stage chose by itself, such as the device."""


@dataclass(frozen=True)
class Manifest:
    """The whole lineage of one artifact."""

    step: str
    stage: str
    revision: int
    fingerprint: str
    settings: Mapping[str, Json]
    inputs: tuple[Input, ...]
    sources: tuple[SourceFile, ...]
    files: tuple[StoredFile, ...]
    figures: tuple[Figure, ...]
    made: Made

    @property
    def identity(self) -> Identity:
        """What decided the artifact's bytes."""
        inputs = {each.role: each.fingerprint for each in self.inputs}
        return Identity(self.stage, self.revision, self.settings, inputs, self.sources)

    @property
    def content(self) -> str:
        """A digest of all files: another one for an artifact that was made again and came out otherwise."""
        return digest([[file.path, file.sha256] for file in self.files])

    def save(self, folder: Path) -> None:
        """Write `manifest.json`, with a hash of itself inside."""
        body = jsonable({"format": FORMAT, **asdict(self)})
        text = json.dumps({**body, "sha256": digest(body)}, indent=2, ensure_ascii=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `manifest.json`. Raises ArtifactDamaged when it is not what was written."""
        path = folder / FILE_NAME
        try:
            raw = json.loads(path.read_bytes())
            written = raw.pop("sha256")
            if digest(raw) != written:
                raise ArtifactDamaged("the manifest is not the one that was written", where=path)
            return _manifest(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ArtifactDamaged(f"the manifest cannot be read ({error})", where=path) from error


def _manifest(raw: Any) -> Manifest:
    if raw.pop("format") != FORMAT:
        raise ValueError("written in another format")
    return Manifest(
        **{
            **raw,
            "inputs": tuple(Input(**each) for each in raw["inputs"]),
            "sources": tuple(SourceFile(**each) for each in raw["sources"]),
            "files": tuple(StoredFile(**each) for each in raw["files"]),
            "figures": tuple(figure_from_json(each) for each in raw["figures"]),
            "made": Made(**raw["made"]),
        }
    )


def figure_from_json(raw: Mapping[str, Any]) -> Figure:
    """The figure that `dataclasses.asdict` and `jsonable` wrote."""
    numbers = {key: float(raw[key]) for key in ("value", "low", "high") if raw[key] is not None}
    return Figure(**{**raw, **numbers, "kind": Kind(raw["kind"])})


def stored_files(folder: Path) -> tuple[StoredFile, ...]:
    """Every file below `folder`, by path, hashed."""
    return tuple(
        StoredFile(path.relative_to(folder).as_posix(), file_digest(path), path.stat().st_size)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    )
