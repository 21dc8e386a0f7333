"""The name of an artifact: a hash of everything that decides its bytes."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlctl.digests import Json, digest

FORMAT = 1
"""Of artifacts and their manifests. It is part of every name, so that those of another release are not found."""


@dataclass(frozen=True)
class SourceFile:
    """A file outside the store, by the name that the recipe's folder gives it, and its content."""

    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class Identity:
    """What decides the bytes of an artifact."""

    stage: str
    revision: int
    settings: Mapping[str, Json]
    inputs: Mapping[str, str]
    """Fingerprints of the inputs, by role."""
    sources: tuple[SourceFile, ...]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over canonical JSON; where a source lies counts only as the recipe names it."""
        return digest(
            {
                "format": FORMAT,
                "stage": self.stage,
                "revision": self.revision,
                "settings": self.settings,
                "inputs": self.inputs,
                "sources": [[source.path, source.sha256] for source in self.sources],
            }
        )
