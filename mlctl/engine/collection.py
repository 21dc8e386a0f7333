"""Artifacts that no current recipe needs."""

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass
from pathlib import Path

from mlctl.digests import digest
from mlctl.engine.manifest import Manifest
from mlctl.engine.store import Store, write_whole
from mlctl.errors import ArtifactDamaged


@dataclass(frozen=True)
class Garbage:
    """A folder that could go."""

    fingerprint: str
    folder: Path
    what: str
    """The step that it was made for, or what else it is."""
    bytes: int


def remember_recipe(store: Store, recipe: Path) -> None:
    """Note that `recipe` keeps artifacts in `store`."""
    absolute = str(recipe.absolute())
    place = store.root / "recipes" / f"{digest(absolute)}.json"
    if not place.exists():
        write_whole(place, json.dumps({"path": absolute}))


def remembered_recipes(store: Store) -> tuple[Path, ...]:
    """The recipes that keep artifacts in `store`; those that are gone from the disk are left out."""
    folder = store.root / "recipes"
    notes = sorted(folder.glob("*.json")) if folder.is_dir() else []
    paths = (Path(json.loads(note.read_bytes())["path"]) for note in notes)
    return tuple(path for path in paths if path.exists())


def garbage(store: Store, needed: Set[str]) -> Iterator[Garbage]:
    """Artifacts and unfinished work whose fingerprint is not among the `needed` ones."""
    for folder in store.artifacts():
        if folder.name not in needed:
            yield Garbage(folder.name, folder, _made_for(folder), _bytes(folder))
    work = store.root / "work"
    for folder in sorted(work.iterdir()) if work.is_dir() else []:
        if folder.name not in needed:
            yield Garbage(folder.name.partition(".")[0], folder, "unfinished work", _bytes(folder))


def collect(store: Store, each: Garbage) -> bool:
    """Remove it, unless a process is at work on it; says whether it went."""
    with store.locked_if_free(each.fingerprint) as is_held:
        if is_held:
            store.discard(each.folder)
        return is_held


def _made_for(folder: Path) -> str:
    try:
        return Manifest.load(folder).step
    except ArtifactDamaged:
        return "unreadable"


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
