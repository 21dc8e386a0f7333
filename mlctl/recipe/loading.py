"""A recipe's file becomes a `Recipe`, or the list of everything that is wrong with it."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from mlctl.errors import Problem, RecipeError, UsageError
from mlctl.recipe.annotations import key_annotations
from mlctl.recipe.base import Settings
from mlctl.recipe.flaws import problems_of
from mlctl.recipe.head import GateSettings, HeadSettings
from mlctl.recipe.overrides import overridden
from mlctl.recipe.recipe import Gate, Recipe, Step
from mlctl.recipe.tree import Entry, Node, Place, collection, entry_at, plain, problem_at, problem_of_key, refuse
from mlctl.recipe.vocabulary import STAGE_SETTINGS
from mlctl.recipe.wiring import Wires
from mlctl.recipe.wording import did_you_mean, found, listed
from mlctl.recipe.yaml_reader import MAX_BYTES, decoded, read_tree

HEAD_KEYS = tuple(key_annotations(HeadSettings))
STEP_NAME = r"[a-z0-9][a-z0-9_-]*"


@dataclass(frozen=True)
class Examined:
    """What could be understood of a recipe, and everything that is wrong with it."""

    recipe: Recipe
    """Without the steps whose settings are wrong."""
    problems: tuple[Problem, ...]
    broken: frozenset[str]
    """The steps that have problems."""


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe in the file, with the overrides (`train.epochs=3`) in it, checked as far as it can be without data.

    Raises RecipeError with all problems at once, and UsageError where the file cannot be read.
    """
    examined = examine_recipe(path, overrides)
    if examined.problems:
        raise RecipeError(examined.problems)
    return examined.recipe


def examine_recipe(path: Path, overrides: Sequence[str] = ()) -> Examined:
    """The recipe as far as it can be understood, for those who have more to say about it.

    Raises RecipeError where the file is not YAML or an override has no place, UsageError where it cannot be read.
    """
    return examine_tree(path, read_recipe(path), overrides)


def examine_tree(path: Path, tree: Node, overrides: Sequence[str]) -> Examined:
    """As `examine_recipe`, for what is read already; `path` is the file whose folder the recipe's paths start from."""
    tree = overridden(tree, overrides)
    problems: list[Problem] = []
    head = _head(tree, problems)
    names = _steps(tree, problems)
    steps = tuple(_step(tree, name, stage, problems) for name, stage in names)
    problems += Wires(tree, names).problems()
    recipe = Recipe(
        path=path,
        name=head.name if head else "",
        seed=head.seed if head else 0,
        steps=tuple(step for step in steps if step),
        gates=tuple(_gate(form) for form in head.gates) if head else (),
        tree=tree,
    )
    broken = (name for name, _ in names if any(f"{each.path}.".startswith(f"{name}.") for each in problems))
    return Examined(recipe, tuple(problems), frozenset(broken))


def lone_settings(stage: str, overrides: Sequence[str]) -> Settings:
    """What a stage that stands in no recipe is told: its defaults, with the overrides (`serve.port=0`) in them.

    Raises RecipeError with all problems at once, keys of anything else among them.
    """
    place = Place(0, 0, stage)
    tree = overridden(collection(place, {stage: Entry(place, Node(place, None))}), overrides)
    problems = [
        problem_of_key(tree, (key,), f"there is no recipe, so that keys below {stage} alone can be set")
        for key in _entries(tree)
        if key != stage
    ]
    settings = _checked(stage, tree, (stage,), problems)
    if settings is None or problems:
        raise RecipeError(tuple(problems))
    return settings


def read_recipe(path: Path) -> Node:
    """What the file says, with places, unchecked. Raises what `examine_recipe` raises."""
    label = str(path)
    tree = read_tree(decoded(_bytes(path), label), Place(1, 1, label))
    if tree is None or tree.value is None:
        refuse(Place(1, 1, label), "the file is empty; a recipe begins with `mlctl: 1`, a name and a step")
    if not isinstance(tree.value, Mapping):
        refuse(tree.place, f"expected keys with values, found {found(plain(tree))}")
    return tree


def _bytes(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UsageError(
            "no such recipe", where=path, next="check the path; `mlctl init` writes a first recipe"
        ) from None
    except IsADirectoryError:
        raise UsageError("a folder, not a recipe", where=path, next="name the YAML file in it") from None
    except OSError as error:
        raise UsageError(
            f"cannot be read: {error.strerror}", where=path, next="check the path and the file's permissions"
        ) from None


def _head(tree: Node, problems: list[Problem]) -> HeadSettings | None:
    head = {key: entry for key, entry in _entries(tree).items() if key in HEAD_KEYS}
    settings = _checked(None, collection(tree.place, head), (), problems)
    return settings if isinstance(settings, HeadSettings) else None


def _entries(tree: Node) -> Mapping[str, Entry]:
    return tree.value if isinstance(tree.value, Mapping) else {}


def _steps(tree: Node, problems: list[Problem]) -> list[tuple[str, str]]:
    """Name and stage of every step, in the file's order."""
    steps: list[tuple[str, str]] = []
    for key in _entries(tree):
        stage, dot, own_name = key.partition(".")
        if key in HEAD_KEYS:
            continue
        if stage not in STAGE_SETTINGS:
            choices = (*HEAD_KEYS, *STAGE_SETTINGS)
            meant = did_you_mean(stage, choices) or f"; the stages are {listed(STAGE_SETTINGS)}"
            problems.append(problem_of_key(tree, (key,), f"unknown key{meant}"))
        elif dot and not re.fullmatch(STEP_NAME, own_name):
            problems.append(problem_of_key(tree, (key,), "a step's own name has small letters, digits, '-' and '_'"))
        else:
            steps.append((key, stage))
    if not steps and not problems:
        problems.append(problem_at(tree, (), f"no step; write at least one of {listed(STAGE_SETTINGS)}"))
    return steps


def _step(tree: Node, name: str, stage: str, problems: list[Problem]) -> Step | None:
    settings = _checked(stage, tree, (name,), problems)
    return Step(name, stage, settings) if settings else None


@cache
def _adapter(stage: str | None) -> TypeAdapter[Settings]:
    return TypeAdapter(_annotation(stage))


def _annotation(stage: str | None) -> Any:
    return STAGE_SETTINGS[stage] if stage else HeadSettings


def _checked(stage: str | None, tree: Node, path: tuple[str, ...], problems: list[Problem]) -> Settings | None:
    """The settings at the path, or None where they have problems, which are added."""
    entry = entry_at(tree, path)
    values = plain(entry.node) if entry else None
    try:
        return _adapter(stage).validate_python({} if values is None else values, by_alias=True, by_name=False)
    except ValidationError as error:
        problems += problems_of(error, _annotation(stage), tree, path)
        return None


def _gate(form: str | GateSettings) -> Gate:
    return Gate(form, None) if isinstance(form, str) else Gate(form.that, form.confidence)
