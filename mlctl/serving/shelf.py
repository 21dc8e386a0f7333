"""Where a server's models come from: a repository of versions, or one file."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from mlctl.serving.refusals import Unknown

if TYPE_CHECKING:
    from mlctl.serving.repository.golden import Golden


class Version(Protocol):
    """One version that may be loaded: its graph, and what it must answer before it takes requests."""

    @property
    def name(self) -> str:
        """The model's."""

    @property
    def number(self) -> int:
        """The version's."""

    @property
    def graph(self) -> Path:
        """The graph's file."""

    @property
    def golden(self) -> "Golden | None":
        """Requests with their right answers, where there are any."""


@dataclass(frozen=True)
class FileVersion:
    """A file, of which nothing more is known."""

    name: str
    number: int
    graph: Path
    golden: "Golden | None" = None


class Shelf(Protocol):
    """The versions that there are, and those that are to be live. Asking it reads the disk."""

    def names(self) -> tuple[str, ...]:
        """Of all models."""

    def versions(self, name: str) -> tuple[int, ...]:
        """Of one model, ascending; none for a model that there is not."""

    def labels(self, name: str) -> Mapping[str, int]:
        """The version that each label points to."""

    def live_version(self, name: str) -> int | None:
        """The one that answers where nobody asks for another; None for a model without versions."""

    def stamp(self, name: str) -> Hashable:
        """Something that is another one whenever versions or labels have changed."""

    def open_version(self, name: str, version: int) -> Version:
        """One version, checked as far as that goes without loading it. Raises DataError."""

    def record_refusal(self, name: str, version: int, why: str) -> None:
        """Let it be known that a server did not take this version."""


@dataclass(frozen=True)
class OneFile:
    """A shelf with one model of one version."""

    name: str
    graph: Path

    def names(self) -> tuple[str, ...]:
        """The model's."""
        return (self.name,)

    def versions(self, name: str) -> tuple[int, ...]:
        """1."""
        return (1,) if name == self.name else ()

    def labels(self, name: str) -> Mapping[str, int]:
        """None."""
        return {}

    def live_version(self, name: str) -> int | None:
        """1."""
        return 1 if name == self.name else None

    def stamp(self, name: str) -> Hashable:
        """Always the same: a file is served as it was when the server began, or was told to load it again."""
        return name == self.name

    def open_version(self, name: str, version: int) -> Version:
        """The file."""
        if name != self.name or version != 1:
            raise Unknown(f"there is no version {version} of {name!r}")
        return FileVersion(name, 1, self.graph)

    def record_refusal(self, name: str, version: int, why: str) -> None:
        """Nobody to tell but the log."""


def version_number(name: str, version: str) -> int:
    """The number that a caller wrote for a version of a model. Raises Unknown for what is none."""
    if not (version.isascii() and version.isdecimal()):
        raise Unknown(f"the model {name!r} has no version {version!r}: versions are whole numbers")
    if len(version) > 18:
        raise Unknown(f"the model {name!r} has no version {version}")
    return int(version)
