"""Labels that move from version to version: `labels.json` in a model's folder, and where each has pointed before."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from mlctl.errors import ArtifactDamaged
from mlctl.serving.repository.history import Event
from mlctl.serving.repository.writing import write_durably

FILE_NAME: Final = "labels.json"
_LARGEST: Final = 1 << 20


def read(folder: Path) -> dict[str, int]:
    """The version of every label; none where nothing was ever labelled. Raises ArtifactDamaged."""
    path = folder / FILE_NAME
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        found = json.loads(path.read_bytes())
        if not isinstance(found, dict) or not all(type(each) is int and each > 0 for each in found.values()):
            raise ValueError("it does not give a version for every label")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        what = getattr(error, "strerror", None) or str(error)
        raise ArtifactDamaged(
            f"the labels cannot be read ({what})",
            where=path,
            next="write it anew as a JSON object of labels and version numbers; history.jsonl says where they pointed",
        ) from error
    return found


def write(folder: Path, labels: Mapping[str, int]) -> None:
    """Let the labels point so; whoever reads sees the old ones or these. Raises OSError."""
    write_durably(folder / FILE_NAME, json.dumps(labels, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def pointed(label: str, events: Iterable[Event], current: int | None) -> list[int]:
    """Where the label has pointed, as a way back: the last is `current`, and a rollback goes to the one before.

    What history does not tell, because a process was killed before it could or a hand moved the label, is taken
    from where the label pointed when the next event came.
    """
    way: list[int] = []
    for event in events:
        if event.label == label and event.version is not None and event.what in ("promoted", "rolled back"):
            _follow(way, event.before)
            if event.what == "promoted":
                _forward(way, event.version)
            else:
                _back(way, event.version)
    _follow(way, current)
    return way


def _follow(way: list[int], version: int | None) -> None:
    """A move that history does not tell: back, where that is one step, else forward."""
    if version is None:
        return
    if len(way) > 1 and way[-2] == version:
        way.pop()
    else:
        _forward(way, version)


def _forward(way: list[int], version: int) -> None:
    if not way or way[-1] != version:
        way.append(version)


def _back(way: list[int], version: int) -> None:
    if version not in way:
        way.append(version)
    while way[-1] != version:
        way.pop()
