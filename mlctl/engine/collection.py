"""Artifacts that no current recipe needs."""

import json
import os
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path
from stat import S_ISREG

from mlctl.digests import digest
from mlctl.engine.failures import system_refusals
from mlctl.engine.manifest import Manifest
from mlctl.engine.store import Store, write_whole
from mlctl.errors import ArtifactDamaged, DataError


@dataclass(frozen=True)
class Garbage:
    """A folder that could go."""

    fingerprint: str
    folder: Path
    what: str
    """The step that it was made for, or what else it is."""
    bytes: int


def remember_recipe(store: Store, recipe: Path) -> None:
    """Note that `recipe` keeps artifacts in `store`, by its way from there: the two may move together."""
    way = os.path.relpath(os.path.realpath(recipe), os.path.realpath(store.root))
    place = store.root / "recipes" / f"{digest(way)}.json"
    if not place.exists():
        with system_refusals(store.root):
            write_whole(place, json.dumps({"path": way}))


def remembered_recipes(store: Store) -> tuple[Path, ...]:
    """The recipes that keep artifacts in `store`; those that are gone from the disk are left out.

    Raises DataError for a note that is damaged: without it, a recipe's artifacts would be taken for garbage.
    """
    folder = store.root / "recipes"
    notes = sorted(folder.glob("*.json")) if folder.is_dir() else []
    paths = (_noted(note) for note in notes)
    return tuple(path for path in paths if path.exists())


def garbage(store: Store, needed: Set[str]) -> Iterator[Garbage]:
    """Artifacts and unfinished work whose fingerprint is not among the `needed` ones."""
    for folder in store.artifacts():
        if folder.name not in needed:
            yield Garbage(folder.name, folder, _made_for(folder), _bytes(folder))
    work = store.root / "work"
    for folder in sorted(work.iterdir()) if work.is_dir() else []:
        if folder.name not in needed:
            yield Garbage(folder.name, folder, "unfinished work", _bytes(folder))


def collect(store: Store, each: Garbage) -> bool:
    """Remove it, unless a process is at work on it; says whether it went."""
    with store.locked_if_free(each.fingerprint) as is_held:
        if is_held:
            store.discard(each.fingerprint)
            store.drop_work(each.fingerprint)
        return is_held


def _noted(note: Path) -> Path:
    try:
        return Path(os.path.realpath(note.parents[1].resolve() / json.loads(note.read_bytes())["path"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(
            "the note of a recipe is damaged", where=note, next="delete it; the next run of that recipe writes it again"
        ) from error


def _made_for(folder: Path) -> str:
    try:
        return Manifest.load(folder).step
    except ArtifactDamaged:
        return "unreadable"


def _bytes(folder: Path) -> int:
    return sum(_size(path) for path in folder.rglob("*"))


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except FileNotFoundError:  # its process took it away meanwhile
        return 0
    return status.st_size if S_ISREG(status.st_mode) else 0
