import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from mlctl.recipe.annotations import settings_classes
from mlctl.recipe.field_docs import class_doc, field_docs
from mlctl.recipe.head import HeadSettings
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.reference import settings_reference
from mlctl.recipe.resolved import resolved
from mlctl.recipe.schema import schema
from mlctl.recipe.vocabulary import STAGE_SETTINGS

DIGITS = Path(__file__).parent / "digits.yaml"
REFERENCE = Path(__file__).parents[2] / "docs" / "recipe.md"


@pytest.fixture(scope="module")
def validator() -> Any:
    return Draft7Validator(schema())


def test_it_is_a_schema_of_draft_7(validator: Any) -> None:
    Draft7Validator.check_schema(schema())
    text = json.dumps(schema())
    assert schema()["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert not any(word in text for word in ("$defs", "prefixItems", '"discriminator"', "changes_bytes"))


def test_every_reference_has_its_definition() -> None:
    text = json.dumps(schema())
    named = set(text.split('"#/definitions/')[1:])
    assert {name.split('"')[0] for name in named} <= set(schema()["definitions"])


@pytest.mark.parametrize(
    "steps",
    [
        "export:",
        "quantize: {per_channel: yes}",
        "quantize: {per_channel: true}",
        "quantize: {method: qat, epochs: 1}",
        "prune: {method: n-of-m, protect: head}",
        "prune: {method: n-of-m, protect: [head, stem]}",
        "train: {optimizer: {name: adam, betas: [0.9, 0.99]}}",
        "train: {keep_best: null, early_stopping: null}",
        "prepare: {task: image-classification, image: {shape: [1, 2, 3]}, split: {files: {train: a, test: b}}}",
        "serve: {workers: auto}\nserve.b: {workers: 2}",
        "export: {}\ngates: [a, {that: b, confidence: 0.9}]",
    ],
)
def test_what_loads_is_accepted(steps: str, validator: Any, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"mlctl: 1\nname: x\n{steps}\n")
    load_recipe(path)
    validator.validate(yaml.safe_load(path.read_text()))


def test_a_whole_recipe_is_accepted_with_and_without_its_defaults(validator: Any) -> None:
    validator.validate(yaml.safe_load(DIGITS.read_text()))
    validator.validate(yaml.safe_load(resolved(load_recipe(DIGITS))))


@pytest.mark.parametrize(
    "change",
    [
        {"mlctl": 2},
        {"name": "Digits"},
        {"seed": -1},
        {"quantise": {}},
        {"export.Half": {}},
        {"train": {"epoch": 3}},
        {"train": {"epochs": 0}},
        {"train": {"model": {"channels": [3]}}},
        {"train": {"model": {"arch": "cnn", "hidden": [3]}}},
        {"train": {"optimizer": {"name": "adam", "betas": [0.9]}}},
        {"train": {"optimizer": {"name": "adam", "betas": [0.9, 0.9, 0.9]}}},
        {"quantize": {"method": "int8"}},
        {"quantize": {"method": "float16", "calibration": {}}},
        {"quantize": {"per_channel": "perhaps"}},
        {"prepare": None},
        {"distill": {}},
        {"gates": [{"confidence": 0.9}]},
    ],
)
def test_what_is_misspelt_is_rejected(change: dict[str, Any], validator: Any) -> None:
    whole = yaml.safe_load(DIGITS.read_text())
    assert not validator.is_valid(whole | change)


def test_the_key_that_chooses_is_demanded_everywhere_but_where_it_has_a_default() -> None:
    definitions = schema()["definitions"]
    assert "arch" in definitions["CnnSettings"]["required"]
    assert "name" in definitions["AdamWSettings"]["required"]
    assert "method" in definitions["StaticQuantization"]["required"]
    assert "method" not in definitions["AutoQuantization"].get("required", [])


def test_every_key_says_what_it_is_for() -> None:
    definitions = schema()["definitions"]
    properties = [field for definition in definitions.values() for field in definition["properties"].values()]
    assert all(field["description"] for field in properties)
    assert definitions["EarlyStopping"]["properties"]["patience"] == {
        "default": 5,
        "description": "Epochs without an improvement before training stops.",
        "maximum": 2**53,
        "minimum": 1,
        "type": "integer",
    }


def test_every_settings_class_and_field_has_its_text() -> None:
    for owner in settings_classes([HeadSettings, *STAGE_SETTINGS.values()]):
        assert class_doc(owner).endswith("."), owner
        assert all(text.endswith(".") or "exit 21" in text for text in field_docs(owner).values()), owner


def test_a_text_over_several_lines_is_told_in_one() -> None:
    (export,) = settings_classes([STAGE_SETTINGS["export"]])
    assert "smaller; above it" in field_docs(export)["tolerance"]


def test_the_reference_is_the_one_that_the_settings_make() -> None:
    made = "python -m mlctl.recipe.reference > docs/recipe.md"
    assert REFERENCE.read_text() == settings_reference(), f"the settings' docs changed; run `{made}`"
