"""The reference of every stage and key, as Markdown: `python -m mlctl.recipe.reference > docs/recipe.md`."""

import json
import sys
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from mlctl.recipe.annotations import (
    alternatives,
    annotated_parts,
    classes_of,
    key_annotations,
    settings_classes,
    variants_of,
)
from mlctl.recipe.base import Count, Flag, Names, Settings
from mlctl.recipe.distill import LayerPairs
from mlctl.recipe.field_docs import class_doc, field_docs
from mlctl.recipe.head import HeadSettings
from mlctl.recipe.networks import Arguments
from mlctl.recipe.vocabulary import STAGE_SETTINGS

INTRODUCTION = """\
# The keys of a recipe

A recipe is one YAML file. Beside the keys of its head, every key is a step: a stage's name, or `stage.name` where a
stage is used twice. A step without settings is written `export: {}`. This page is made from the settings themselves:
`python -m mlctl.recipe.reference > docs/recipe.md`.
"""

_WORDS: dict[Any, str] = {
    int: "whole number",
    float: "number",
    str: "text",
    type(None): "null",
    Count: "whole number from 1",
    Flag: "true or false",
    Names: "text or list of texts",
    Arguments: "keys with values",
    LayerPairs: "names with names",
}
_LIMITS = ((Ge, "ge", "at least"), (Gt, "gt", "more than"), (Le, "le", "at most"), (Lt, "lt", "less than"))


def settings_reference() -> str:
    """Every stage and key, with its type, its default and what it says, as Markdown."""
    stages = {name: classes_of(annotation) for name, annotation in STAGE_SETTINGS.items()}
    own = {owner for owners in stages.values() for owner in owners} | {HeadSettings}
    parts = [owner for owner in settings_classes([HeadSettings, *STAGE_SETTINGS.values()]) if owner not in own]
    sections = [INTRODUCTION, _section("## The head", HeadSettings)]
    for stage, annotation in STAGE_SETTINGS.items():
        sections.append(f"## {stage}\n")
        sections += _stage(annotation)
    sections.append("## Parts\n\nWhat stands inside the stages above.\n")
    sections += [_section(f"### {owner.__name__}", owner) for owner in parts]
    return "\n".join(sections)


def _stage(annotation: Any) -> Iterator[str]:
    variants = variants_of(annotation)
    if variants is None:
        yield from (_section("", owner).lstrip() for owner in classes_of(annotation))
        return
    for tag, owner in variants.kinds.items():
        yield _section(f"### `{variants.key}: {tag}`", owner)


def _section(title: str, owner: type[Settings]) -> str:
    docs = field_docs(owner)
    rows = [
        f"| `{key}` | {_type(annotation)} | {_default(field, annotation)} | {docs[key]} |"
        for (key, annotation), field in zip(key_annotations(owner).items(), owner.model_fields.values(), strict=True)
    ]
    table = "\n".join(["| key | value | default | what it says |", "| --- | --- | --- | --- |", *rows])
    return f"{title}\n\n{class_doc(owner)}\n\n{table}\n"


def _type(annotation: Any) -> str:
    if annotation in _WORDS:
        return _WORDS[annotation]
    if variants := variants_of(annotation):
        kinds = [_type(kind) for kind in variants.kinds.values()]
        return ", ".join(kinds) + (" or null" if type(None) in alternatives(annotation) else "")
    members = alternatives(annotation)
    if len(members) > 1:
        return " or ".join(_type(member) for member in members)
    return _single(*annotated_parts(annotation))


def _single(inner: Any, notes: tuple[Any, ...]) -> str:
    if isinstance(inner, type) and issubclass(inner, Settings):
        return f"[{inner.__name__}](#{inner.__name__.lower()})"
    if get_origin(inner) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(inner))
    if get_origin(inner) is tuple:
        return _list(get_args(inner))
    return ", ".join([_WORDS[inner], *_limits(notes)])


def _list(items: tuple[Any, ...]) -> str:
    if Ellipsis in items:
        return f"list of: {_type(items[0])}"
    return f"list of {len(items)}: {_type(items[0])}"


def _limits(notes: tuple[Any, ...]) -> Iterator[str]:
    for note in notes:
        for limit in note.metadata if isinstance(note, FieldInfo) else ():
            for kind, name, words in _LIMITS:
                if isinstance(limit, kind):
                    yield f"{words} {getattr(limit, name):,}"


def _default(field: FieldInfo, annotation: Any) -> str:
    if field.is_required():
        return "required"
    if not isinstance(field.default, Settings):
        return f"`{json.dumps(field.default)}`"
    variants = variants_of(annotation)
    key = variants.key if variants else None
    return f"`{{{key}: {getattr(field.default, key)}}}`" if key else "`{}`"


if __name__ == "__main__":
    sys.stdout.write(settings_reference())
