"""What a repository of models holds, as people are told of it; and labels that they move."""

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from mlctl.errors import ArtifactDamaged, DataError
from mlctl.serving.repository.history import Event
from mlctl.serving.repository.names import model_and_version, require_model_name
from mlctl.serving.repository.promotion import Moved, promote, roll_back
from mlctl.serving.repository.publishing import gates_text
from mlctl.serving.repository.record import VersionRecord
from mlctl.serving.repository.repository import Repository
from mlctl.serving.repository.writing import repository_refusals

FOREIGN_CONFIG: Final = "config.pbtxt was not written by mlctl, or the live version is damaged; it was left as it is"
"""What is said where Triton was not told of the live version."""


@dataclass(frozen=True)
class VersionListing:
    """One version; `record` is None for one that was put there by hand, or whose record is damaged."""

    version: int
    labels: tuple[str, ...]
    is_live: bool
    """Whether it answers those who name no version."""
    bytes: int
    """All of its files together."""
    record: VersionRecord | None
    damage: str
    """Why the record cannot be read, if it cannot."""


@dataclass(frozen=True)
class ModelListing:
    """One model with all of its versions, ascending."""

    name: str
    versions: tuple[VersionListing, ...]
    labels: dict[str, int]
    damage: str
    """Why no version is live, if none is."""
    last_refusal: Event | None
    history: tuple[Event, ...]


def listings(root: Path, name: str | None = None) -> tuple[ModelListing, ...]:
    """All models, or one. Raises DataError where there is no such folder or model, UsageError for no name at all."""
    repository = Repository(root)
    with repository_refusals(root):
        if name is None:
            return tuple(_model(repository, each) for each in repository.names())
        repository.model_folder(require_model_name(name))
        return (_model(repository, name),)


def promote_version(root: Path, named: str, label: str, on_wait: Callable[[], None]) -> Moved:
    """Let the label point to `NAME@VERSION`. Raises what `promotion.promote` does."""
    name, version = model_and_version(named)
    with repository_refusals(root):
        return promote(Repository(root), name, version, label, on_wait=on_wait)


def roll_back_label(root: Path, name: str, label: str, on_wait: Callable[[], None]) -> Moved:
    """Let the label point to where it did before. Raises what `promotion.roll_back` does."""
    with repository_refusals(root):
        return roll_back(Repository(root), require_model_name(name), label, on_wait=on_wait)


def _model(repository: Repository, name: str) -> ModelListing:
    labels: dict[str, int] = {}
    live, damage = None, ""
    versions = repository.versions(name)
    try:
        labels = repository.labels(name)
        live = repository.live_version(name)
    except DataError as error:
        damage = f"{error.where}: {error.what}"
    events = repository.history(name)
    return ModelListing(
        name=name,
        versions=tuple(
            _version(repository, name, each, tuple(sorted(key for key, value in labels.items() if value == each)), live)
            for each in versions
        ),
        labels=labels,
        damage=damage,
        last_refusal=next((each for each in reversed(events) if each.what == "refused"), None),
        history=events,
    )


def _version(
    repository: Repository, name: str, number: int, labels: tuple[str, ...], live: int | None
) -> VersionListing:
    record, damage = None, ""
    try:
        record = repository.record(name, number)
    except ArtifactDamaged as error:
        damage = error.what
    folder = repository.folder(name, number)
    size = sum(each.stat().st_size for each in folder.iterdir() if each.is_file())
    return VersionListing(number, labels, number == live, size, record, damage)


def verdict_text(record: VersionRecord) -> str:
    """What came of the version's gates, in words."""
    return gates_text(record.gates)


def event_text(event: Event) -> str:
    """One line: when, who, what, and why."""
    version = "" if event.version is None else f" {event.version}"
    label = f" as {event.label}" if event.label else ""
    before = "" if event.before is None else f", before {event.before}"
    parts = (event.why, event.verdict, f"{event.step} of {event.recipe}" if event.recipe else "")
    more = "; ".join(part for part in parts if part)
    return f"{event.when} {event.who}: {event.what}{version}{label}{before}{': ' if more else ''}{more}"


def move_text(moved: Moved, *, as_json: bool) -> str:
    """Where a label points now, and where it did: lines, or one JSON document."""
    lines = [json.dumps(asdict(moved), indent=2, ensure_ascii=False)] if as_json else _lines(moved)
    return "".join(f"{line}\n" for line in lines)


def _lines(moved: Moved) -> Iterator[str]:
    now = f"{moved.label} is {moved.name}@{moved.version}"
    if moved.before == moved.version:
        yield f"{now}, as it was before"
    elif moved.before is not None:
        yield f"{now}, and was {moved.name}@{moved.before}"
    else:
        yield now
    if not moved.has_config:
        yield FOREIGN_CONFIG
