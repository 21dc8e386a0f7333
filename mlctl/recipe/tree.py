"""A recipe's values, and where each of them stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

from mlctl.errors import Problem, RecipeError
from mlctl.recipe.scalars import Scalar
from mlctl.recipe.wording import path_text

KeyPath: TypeAlias = Sequence[str | int]
"""Keys of mappings and indexes of sequences, from the root."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: line and column from 1, both 0 where `file` is the text of an override."""

    line: int
    column: int
    file: str


@dataclass(frozen=True, slots=True)
class Node:
    """A value and its place; `size` counts the nodes under it and itself, `height` its levels, aliases written out."""

    place: Place
    value: "Scalar | tuple[Node, ...] | Mapping[str, Entry]"
    size: int = 1
    height: int = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A mapping's value, and the place of its key."""

    key: Place
    node: Node


def refuse(place: Place, message: str, path: KeyPath = ()) -> NoReturn:
    """Raises the RecipeError with this one problem."""
    raise RecipeError((_problem(place, path, message),))


def collection(place: Place, value: tuple[Node, ...] | Mapping[str, Entry]) -> Node:
    """The node of a sequence or a mapping."""
    parts = [entry.node for entry in value.values()] if isinstance(value, Mapping) else value
    return Node(place, value, 1 + sum(part.size for part in parts), 1 + max((part.height for part in parts), default=0))


def plain(node: Node) -> Any:
    """The tree's values alone: mappings as dicts, sequences as tuples."""
    if isinstance(node.value, Mapping):
        return {key: plain(entry.node) for key, entry in node.value.items()}
    if isinstance(node.value, tuple):
        return tuple(plain(item) for item in node.value)
    return node.value


def entry_at(tree: Node, path: KeyPath) -> Entry | None:
    """What stands at the path, or None. The root, and an item of a sequence, has its own place for a key's."""
    entry = Entry(tree.place, tree)
    for key in path:
        value = entry.node.value
        if isinstance(value, Mapping) and key in value:
            entry = value[str(key)]
        elif isinstance(value, tuple) and isinstance(key, int) and 0 <= key < len(value):
            entry = Entry(value[key].place, value[key])
        else:
            return None
    return entry


def place_at(tree: Node, path: KeyPath) -> Place:
    """Where to point for a problem at the path.

    A scalar and a sequence stand for themselves, a mapping is pointed at by its key, and what is missing by the
    nearest thing above it that is there.
    """
    entry = entry_at(tree, path)
    if entry is None:
        return place_at(tree, path[:-1])
    by_key = isinstance(entry.node.value, Mapping) or entry.node.value is None
    return entry.key if by_key else entry.node.place


def problem_at(tree: Node, path: KeyPath, message: str) -> Problem:
    """The problem of what stands at the path, or is missing there."""
    return _problem(place_at(tree, path), path, message)


def problem_of_key(tree: Node, path: KeyPath, message: str) -> Problem:
    """The problem of the path's last key itself."""
    entry = entry_at(tree, path)
    return _problem(entry.key if entry else place_at(tree, path), path, message)


def _problem(place: Place, path: KeyPath, message: str) -> Problem:
    return Problem(place.line, place.column, place.file, path_text(path), message)
