"""What is known of a published version: `mlctl.json` in its folder, with the digest of every file beside it.

Standard library only: `mlctl models` answers at once.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from mlctl.digests import digest, jsonable
from mlctl.engine.manifest import StoredFile
from mlctl.errors import ArtifactDamaged

FILE_NAME: Final = "mlctl.json"
GRAPH: Final = "model.onnx"
TOKENIZER: Final = "tokenizer.json"
GOLDEN: Final = "golden.safetensors"
CLASSES: Final = "labels.txt"
"""One class on a line, as Triton reads it."""

_FORMAT: Final = 1
_LARGEST: Final = 64 << 20
"""Bytes of a file that can be meant: a thousand classes and figures take one of them."""
NEXT: Final = (
    "`mlctl promote NAME@VERSION` chooses another version; "
    "`mlctl publish RECIPE --to REPOSITORY --again` writes it anew"
)


@dataclass(frozen=True)
class PortRecord:
    """An input or output of the graph: NumPy dtype name, and shape with the batch, None where a size is open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class GateRecord:
    """A gate that the version has passed."""

    text: str
    outcome: str
    left: float | None = None
    right: float | None = None


@dataclass(frozen=True)
class FigureRecord:
    """A figure that was measured of the version, by its full name; `low` and `high` are its interval, if any."""

    name: str
    value: float
    unit: str = ""
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class GoldenRecord:
    """How many golden requests there are, and how far an answer may be from theirs; see `golden.Golden`."""

    requests: int
    tolerance: float
    why: str
    """Where the tolerance comes from."""


@dataclass(frozen=True)
class VersionRecord:
    """Everything about a version but its bytes."""

    name: str
    version: int
    published: str
    """UTC, ISO 8601."""
    who: str
    """user@host."""
    recipe: str
    step: str
    stage: str
    fingerprint: str
    """Of the artifact."""
    made: str
    """When the artifact was, UTC, ISO 8601."""
    mlctl: str
    task: str
    labels: tuple[str, ...]
    inputs: tuple[PortRecord, ...]
    outputs: tuple[PortRecord, ...]
    max_batch: int
    """Most rows of one call; 0 where requests cannot be joined."""
    gates: tuple[GateRecord, ...]
    figures: tuple[FigureRecord, ...]
    golden: GoldenRecord
    files: tuple[StoredFile, ...]
    """Every file of the folder but this one."""

    @property
    def bytes(self) -> int:
        """All files together."""
        return sum(each.bytes for each in self.files)

    @property
    def model_files(self) -> tuple[StoredFile, ...]:
        """Those that came from the artifact."""
        return tuple(each for each in self.files if each.path not in (GOLDEN, CLASSES))

    def has(self, path: str) -> bool:
        """Whether there is a file of that name."""
        return any(each.path == path for each in self.files)

    def save(self, folder: Path) -> None:
        """Write `mlctl.json`, with a hash of itself inside."""
        body = jsonable({"format": _FORMAT, **asdict(self)})
        text = json.dumps({**body, "sha256": digest(body)}, indent=2, ensure_ascii=False)
        (folder / FILE_NAME).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "VersionRecord":
        """Read `mlctl.json`. Raises ArtifactDamaged when it is not what was written."""
        path = folder / FILE_NAME
        try:
            if path.stat().st_size > _LARGEST:
                raise ValueError("it is too large")
            raw = json.loads(path.read_bytes())
            written = raw.pop("sha256")
            if digest(raw) != written:
                raise ValueError("it is not the one that was written")
            return _record(raw)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            what = getattr(error, "strerror", None) or str(error)
            raise ArtifactDamaged(f"the version's record cannot be read ({what})", where=path, next=NEXT) from error


def _record(raw: Any) -> VersionRecord:
    if raw.pop("format") != _FORMAT:
        raise ValueError("written in another format")
    record = VersionRecord(
        **{
            **raw,
            "labels": tuple(raw["labels"]),
            "inputs": tuple(map(_port, raw["inputs"])),
            "outputs": tuple(map(_port, raw["outputs"])),
            "gates": tuple(GateRecord(**_numbers(each)) for each in raw["gates"]),
            "figures": tuple(FigureRecord(**_numbers(each)) for each in raw["figures"]),
            "golden": GoldenRecord(**raw["golden"]),
            "files": tuple(StoredFile(**each) for each in raw["files"]),
        }
    )
    if not all(Path(each.path).name == each.path and not each.path.startswith(".") for each in record.files):
        raise ValueError("it names files that do not lie beside it")
    if not record.has(GRAPH) or not isinstance(record.golden.tolerance, float) or record.golden.tolerance <= 0:
        raise ValueError("it describes no model that could be checked")
    return record


def _port(raw: Mapping[str, Any]) -> PortRecord:
    return PortRecord(raw["name"], raw["dtype"], tuple(raw["shape"]))


def _numbers(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers that `jsonable` spelled out, as numbers again."""
    spelled = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    numeric = ("value", "left", "right", "low", "high")
    return {key: spelled.get(each, each) if key in numeric and isinstance(each, str) else each
            for key, each in raw.items()}  # fmt: skip
