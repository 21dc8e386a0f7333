"""The recipe language as JSON Schema, for editors."""

from typing import Any, TypeAlias

from pydantic import TypeAdapter, ValidationError

from mlctl.recipe.annotations import key_annotations, settings_classes, variants_of
from mlctl.recipe.base import Settings
from mlctl.recipe.field_docs import class_doc, field_docs
from mlctl.recipe.head import HeadSettings
from mlctl.recipe.loading import STEP_NAME
from mlctl.recipe.vocabulary import STAGE_SETTINGS

JsonObject: TypeAlias = dict[str, Any]

DRAFT = "http://json-schema.org/draft-07/schema#"
_NOISE = ("title", "discriminator", "changes_bytes")


def schema() -> JsonObject:
    """The JSON Schema (draft 7) of a recipe, as JSON's own values.

    It describes every key, type, range and choice; what needs more than one key at a time, such as the name after
    `from:`, only loading can check.
    """
    annotations: dict[str, Any] = {"": HeadSettings} | STAGE_SETTINGS
    by_stage, shared = TypeAdapter.json_schemas(
        [(stage, "validation", TypeAdapter(annotation)) for stage, annotation in annotations.items()],
        ref_template="#/definitions/{model}",
    )
    definitions = {name: _as_draft_7(definition) for name, definition in shared["$defs"].items()}
    for owner in settings_classes(annotations.values()):
        _complete(definitions, owner)
    head = definitions.pop(HeadSettings.__name__)
    steps = {
        rf"^{stage}(\.{STEP_NAME})?$": _step(annotation, _as_draft_7(by_stage[stage, "validation"]))
        for stage, annotation in STAGE_SETTINGS.items()
    }
    return {"$schema": DRAFT, "title": "mlctl recipe", **head, "patternProperties": steps, "definitions": definitions}


def _as_draft_7(value: Any) -> Any:
    """The schema without pydantic's noise and without what came after draft 7."""
    if isinstance(value, list):
        return [_as_draft_7(item) for item in value]
    if not isinstance(value, dict):
        return value
    plain = {key: item if key == "default" else _as_draft_7(item) for key, item in value.items() if key not in _NOISE}
    if "properties" in value:
        plain["properties"] = {key: _as_draft_7(item) for key, item in value["properties"].items()}
    if "prefixItems" in plain:
        plain |= {"items": plain.pop("prefixItems"), "additionalItems": False}
    if "$ref" in plain and len(plain) > 1:  # draft 7 ignores what stands beside a reference
        plain["allOf"] = [{"$ref": plain.pop("$ref")}]
    return plain


def _complete(definitions: JsonObject, owner: type[Settings]) -> None:
    """Say what the class and its fields are for, and demand the key that chooses between classes."""
    definition = definitions[owner.__name__]
    definition["description"] = class_doc(owner)
    for key, text in field_docs(owner).items():
        field = definition["properties"][key]
        if "$ref" in field:
            field["allOf"] = [{"$ref": field.pop("$ref")}]
        field["description"] = text
    for annotation in key_annotations(owner).values():
        _demand_choice(definitions, annotation)


def _demand_choice(definitions: JsonObject, annotation: Any) -> None:
    variants = variants_of(annotation)
    if variants is None or variants.key is None:
        return
    for kind in variants.kinds.values():
        required = definitions[kind.__name__].setdefault("required", [])
        if variants.key not in required:
            required.append(variants.key)


def _step(annotation: Any, stage: JsonObject) -> JsonObject:
    return {"anyOf": [stage, {"type": "null"}]} if _may_be_empty(annotation) else stage


def _may_be_empty(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation).validate_python({})
    except ValidationError:
        return False
    return True
