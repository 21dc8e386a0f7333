"""What the settings classes say about themselves: keys, variants, and what a path through them means."""

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import Discriminator, Tag
from pydantic.fields import FieldInfo

from mlctl.recipe.base import Settings


@dataclass(frozen=True)
class Variants:
    """A choice between classes; `key` is the one whose value chooses, None where the keys themselves do."""

    key: str | None
    kinds: dict[str, Any]


def is_settings(annotation: object) -> TypeGuard[type[Settings]]:
    """Whether this is a settings class, not a union of several."""
    return isinstance(annotation, type) and issubclass(annotation, Settings)


def key_annotations(owner: type[Settings]) -> dict[str, Any]:
    """The class's keys as a recipe spells them, in the order in which they are declared, with their annotations."""
    hints: dict[str, Any] = {}
    for parent in reversed(owner.__mro__):
        if issubclass(parent, Settings):
            hints |= inspect.get_annotations(parent)
    return {field.alias or name: hints[name] for name, field in owner.model_fields.items()}


def annotated_parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """What `Annotated` holds: the type, and what is said about it."""
    if get_origin(annotation) is Annotated:
        inner, *notes = get_args(annotation)
        return inner, tuple(notes)
    return annotation, ()


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, in order, None included; of anything else, itself."""
    inner, _ = annotated_parts(annotation)
    return get_args(inner) if get_origin(inner) in (Union, UnionType) else (annotation,)


def without_null(annotation: Any) -> Any:
    """The annotation of what may stand there when it is not null."""
    members = [member for member in alternatives(annotation) if member is not type(None)]
    return members[0] if len(members) == 1 else annotation


def variants_of(annotation: Any) -> Variants | None:
    """The classes between which a key chooses, or None where there is no such choice."""
    annotation = without_null(annotation)
    _, notes = annotated_parts(annotation)
    for note in notes:
        if isinstance(note, FieldInfo) and isinstance(note.discriminator, str):
            key = note.discriminator
            return Variants(key, {tag: kind for kind in alternatives(annotation) for tag in _tags(kind, key)})
        if isinstance(note, Discriminator):
            kinds = dict(_tagged(member) for member in alternatives(annotation))
            return Variants(_choosing_key(kinds), kinds)
    return None


def classes_of(annotation: Any) -> tuple[type[Settings], ...]:
    """The settings classes that may stand there: none, one, or all variants."""
    if variants := variants_of(annotation):
        return tuple(kind for kind in variants.kinds.values() if is_settings(kind))
    inner, _ = annotated_parts(without_null(annotation))
    return (inner,) if is_settings(inner) else ()


def keys_of(annotation: Any) -> tuple[str, ...]:
    """Every key that may stand there, over all variants, each once."""
    return tuple(dict.fromkeys(key for owner in classes_of(annotation) for key in key_annotations(owner)))


def settings_classes(annotations: Iterable[Any]) -> tuple[type[Settings], ...]:
    """Every settings class that can be reached from the annotations, each once, outer before inner."""
    reached: dict[type[Settings], None] = {}
    waiting = [owner for annotation in annotations for owner in classes_of(annotation)]
    while waiting:
        owner = waiting.pop(0)
        if owner not in reached:
            reached[owner] = None
            waiting += [inner for part in key_annotations(owner).values() for inner in _inner_classes(part)]
    return tuple(reached)


def _inner_classes(annotation: Any) -> tuple[type[Settings], ...]:
    inner, _ = annotated_parts(without_null(annotation))
    items = get_args(inner) if get_origin(inner) is tuple else ()
    return classes_of(annotation) or tuple(owner for item in items for owner in classes_of(item))


def untagged(annotation: Any, location: Sequence[str | int]) -> tuple[tuple[str | int, ...], Any]:
    """The path that one of pydantic's locations means, and the annotation of what stands there, None if unknown.

    Pydantic puts the tag of every union that it passes between the keys.
    """
    path: list[str | int] = []
    for component in location:
        annotation, is_tag = _step(annotation, component)
        if not is_tag:
            path.append(component)
    return tuple(path), annotation


def _step(annotation: Any, component: str | int) -> tuple[Any, bool]:
    if variants := variants_of(annotation):
        return variants.kinds.get(str(component)), True
    inner, _ = annotated_parts(without_null(annotation))
    if is_settings(inner):
        return key_annotations(inner).get(str(component)), False
    if get_origin(inner) is tuple and isinstance(component, int):
        items = get_args(inner)
        return items[0 if Ellipsis in items else min(component, len(items) - 1)], False
    return None, len(alternatives(inner)) > 1


def _tagged(member: Any) -> tuple[str, Any]:
    kind, notes = annotated_parts(member)
    return next(note.tag for note in notes if isinstance(note, Tag)), kind


def _tags(kind: Any, key: str) -> tuple[str, ...]:
    annotation = key_annotations(kind).get(key) if is_settings(kind) else None
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def _choosing_key(kinds: dict[str, Any]) -> str | None:
    first = next(iter(kinds.values()))
    for key in key_annotations(first) if is_settings(first) else ():
        if _tags(first, key) and all(_tags(kind, key) in ((tag,), ()) for tag, kind in kinds.items()):
            return key
    return None
