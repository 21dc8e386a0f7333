"""Intervals of gates, computed once for the same gate over the same artifacts."""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from mlctl.digests import digest
from mlctl.engine.gates import Difference, Gate
from mlctl.engine.store import Artifact, write_whole

FORMAT = 1


class GateMemory:
    """Asks `compare` for a gate's paired difference, and remembers the answer in `folder`."""

    def __init__(self, folder: Path, compare: Callable[[Gate, Mapping[str, Path]], Difference | None]) -> None:
        self._folder = folder
        self._compare = compare

    def difference(self, gate: Gate, artifacts: Mapping[str, Artifact]) -> Difference | None:
        """The gate's paired difference over the artifacts of the steps that it names, by step name.

        Raises ArtifactDamaged when one of them is not what was written.
        """
        fingerprints = {name: artifact.manifest.content for name, artifact in artifacts.items()}
        key = digest({"format": FORMAT, "gate": gate.text, "confidence": gate.confidence, "over": fingerprints})
        place = self._folder / f"{key}.json"
        if (known := _read(place)) is not None:
            return known[0]
        for artifact in artifacts.values():
            artifact.verify()
        found = self._compare(gate, {name: artifact.folder for name, artifact in artifacts.items()})
        with suppress(OSError):  # what cannot be remembered is only computed again
            write_whole(place, json.dumps(asdict(found) if found else None))
        return found


def _read(place: Path) -> tuple[Difference | None] | None:
    try:
        raw = json.loads(place.read_bytes())
        return (Difference(**raw) if raw else None,)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
