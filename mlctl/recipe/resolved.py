"""A recipe with every default written out."""

import re
from typing import Any

import yaml

from mlctl.recipe.head import LANGUAGE_VERSION
from mlctl.recipe.recipe import Gate, Recipe
from mlctl.recipe.scalars import FLOAT, INTEGER

LINE_CHARACTERS = 120


class _Dumper(yaml.SafeDumper):
    """Quotes every text that either YAML 1.1 or the core schema of 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    breaks_lines = any(mark in text for mark in "\x85\u2028\u2029")
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"' if breaks_lines else None)


_Dumper.add_representer(str, _text)
for _tag, _pattern in (("int", INTEGER), ("float", FLOAT)):
    _Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern.pattern})$"), [*"+-.0123456789"]
    )


def resolved(recipe: Recipe) -> str:
    """The recipe as YAML in which every key is written; loading it gives an equal recipe."""
    whole: dict[str, Any] = {"mlctl": LANGUAGE_VERSION, "name": recipe.name, "seed": recipe.seed}
    for step in recipe.steps:
        whole[step.name] = step.settings.model_dump(by_alias=True)
    whole["gates"] = [_written(gate) for gate in recipe.gates]
    return yaml.dump(
        whole, Dumper=_Dumper, sort_keys=False, default_flow_style=None, allow_unicode=True, width=LINE_CHARACTERS
    )


def _written(gate: Gate) -> str | dict[str, str | float]:
    return gate.that if gate.confidence is None else {"that": gate.that, "confidence": gate.confidence}
