"""What pydantic finds wrong with settings, in the recipe's own words and at its place."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mlctl.errors import Problem
from mlctl.recipe.annotations import annotated_parts, keys_of, untagged, variants_of, without_null
from mlctl.recipe.base import Names
from mlctl.recipe.scalars import resolved_scalar
from mlctl.recipe.tree import Node, problem_at, problem_of_key
from mlctl.recipe.wording import did_you_mean, found, listed, value_text

KINDS = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "a text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "keys with values",
    "model_attributes_type": "keys with values",
}
LIMITS = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}
TO_WRITE = {"mlctl": "write `mlctl: 1`", "name": "write `name:` and a name for the model"}


@dataclass(frozen=True)
class Flaw:
    """One of pydantic's errors: where in the recipe, and what to say.

    `kind` is the phrase for what could stand there, where a wrong kind of value is all that is wrong: an error of
    one of several alternatives, which are then told in one sentence.
    """

    path: tuple[str | int, ...]
    message: str
    value: object
    kind: str | None = None
    at_key: bool = False


def problems_of(error: ValidationError, annotation: Any, tree: Node, prefix: tuple[str | int, ...]) -> list[Problem]:
    """Every problem that `error` holds about the settings that stand at `prefix` in the tree."""
    flaws: dict[tuple[str | int, ...], list[Flaw]] = {}
    for details in error.errors(include_url=False):
        flaw = _flaw(details, annotation)
        flaws.setdefault(flaw.path, []).append(flaw)
    return [_problem(flaw, tree, prefix) for group in flaws.values() for flaw in _told_once(group)]


def _problem(flaw: Flaw, tree: Node, prefix: tuple[str | int, ...]) -> Problem:
    path = (*prefix, *flaw.path)
    return problem_of_key(tree, path, flaw.message) if flaw.at_key else problem_at(tree, path, flaw.message)


def _told_once(group: list[Flaw]) -> list[Flaw]:
    precise = [flaw for flaw in group if flaw.kind is None]
    if precise or len(group) == 1:
        return precise or group
    kinds = " or ".join(flaw.kind or "" for flaw in group)
    return [Flaw(group[0].path, f"expected {kinds}, found {found(group[0].value)}", group[0].value)]


def _flaw(details: ErrorDetails, annotation: Any) -> Flaw:
    name, location, value = details["type"], details["loc"], details["input"]
    if name == "missing":
        return _missing(location, annotation, value)
    if name == "extra_forbidden":
        return _unknown(location, annotation, value)
    path, there = untagged(annotation, location)
    if name in ("union_tag_not_found", "union_tag_invalid"):
        return _unchosen(path, there, value)
    if name == "literal_error":
        choices = get_args(annotated_parts(without_null(there))[0]) if there else ()
        expected = listed(choices) if choices else str(details["ctx"]["expected"])
        return Flaw(path, _not_one_of(value, choices, expected), value, expected)
    if name in KINDS:
        kind = "a text or a list of texts" if without_null(there) == Names else KINDS[name]
        return Flaw(path, f"expected {kind}, found {found(value)}{_advice(name, value)}", value, kind)
    return Flaw(path, _sentence(details), value)


def _sentence(details: ErrorDetails) -> str:
    name, context = details["type"], details.get("ctx", {})
    if name in LIMITS:
        words, limit = LIMITS[name]
        return f"{words} {context[limit]:,g}" if isinstance(context[limit], float) else f"{words} {context[limit]:,}"
    if name == "finite_number":
        return "must be a finite number"
    if name == "too_short":
        return f"needs at least {_items(context['min_length'])}, found {context['actual_length'] or 'none'}"
    if name == "too_long":
        return f"takes at most {_items(context['max_length'])}, found {context['actual_length']}"
    return str(context["error"]) if name == "value_error" else details["msg"]


def _items(count: int) -> str:
    return f"{count} item" if count == 1 else f"{count} items"


def _missing(location: Sequence[str | int], annotation: Any, value: object) -> Flaw:
    path, _ = untagged(annotation, location)
    if isinstance(value, tuple):
        owner, there = untagged(annotation, location[:-1])
        items = len(get_args(annotated_parts(without_null(there))[0]))
        return Flaw(owner, f"needs {_items(items)}, found {len(value) or 'none'}", value)
    advice = TO_WRITE.get(str(path[-1]), "it has no default") if len(path) == 1 else "it has no default"
    return Flaw(path, f"missing; {advice}", value)


def _unknown(location: Sequence[str | int], annotation: Any, value: object) -> Flaw:
    path, owner = untagged(annotation, location[:-1])
    key = location[-1]
    message = f"unknown key{_where_known(location, annotation) or did_you_mean(key, keys_of(owner))}"
    return Flaw((*path, key), message, value, at_key=True)


def _where_known(location: Sequence[str | int], annotation: Any) -> str:
    """Which other variants know the key, or nothing."""
    if len(location) < 2:
        return ""
    variants = variants_of(untagged(annotation, location[:-2])[1])
    if variants is None or variants.key is None:
        return ""
    knowing = [tag for tag, kind in variants.kinds.items() if location[-1] in keys_of(kind)]
    return f" with {variants.key}: {location[-2]}; it belongs to {listed(knowing)}" if knowing else ""


def _unchosen(path: tuple[str | int, ...], annotation: Any, value: Any) -> Flaw:
    variants = variants_of(annotation)
    key, choices = (variants.key or "", tuple(variants.kinds)) if variants else ("", ())
    if key not in value:
        return Flaw((*path, key), f"missing; write one of {listed(choices)}", value)
    return Flaw((*path, key), _not_one_of(value[key], choices, listed(choices)), value[key])


def _not_one_of(value: object, choices: Sequence[object], expected: str) -> str:
    return f"{value_text(value)} is not one of {expected}{did_you_mean(value, choices)}"


def _advice(name: str, value: object) -> str:
    if name == "string_type" and isinstance(value, bool | int | float):
        return "; write it in quotes"
    is_number = name in ("int_type", "float_type") and isinstance(value, str) and len(value) < 40
    if is_number and isinstance(resolved_scalar(str(value)), int | float):
        return "; take the quotes away"
    return ""
