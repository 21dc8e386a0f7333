"""What a recipe says beside its steps: its version, name, seed and gates."""

import re
from typing import Annotated, Any, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, WithJsonSchema

from mlctl.recipe.base import PositiveFraction, Settings

LANGUAGE_VERSION = 1

LONGEST_NAME = 64

_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{LONGEST_NAME - 1}}}")


def _is_read(version: int) -> int:
    if version != LANGUAGE_VERSION:
        raise ValueError(f"this release reads version {LANGUAGE_VERSION} of the recipe language, not {version}")
    return version


def _is_a_name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "a name has up to 64 small letters, digits, '.', '_' and '-', and begins with a letter or digit"
        )
    return text


def _form_of_gate(value: Any) -> str:
    return "text" if isinstance(value, str) else "keys"


class GateSettings(Settings):
    """A condition that the paired interval must decide."""

    that: str
    """An expression over measured figures, such as `eval[quantize].accuracy >= eval[train].accuracy - 0.005`."""

    confidence: PositiveFraction | None = None
    """Level of the interval that must lie on one side; null compares the figures alone."""


GateForm: TypeAlias = Annotated[
    Annotated[str, Tag("text")] | Annotated[GateSettings, Tag("keys")], Discriminator(_form_of_gate)
]
"""An expression, or an expression with a confidence."""


class HeadSettings(Settings):
    """What a recipe says beside its steps."""

    mlctl: Annotated[int, AfterValidator(_is_read), WithJsonSchema({"const": LANGUAGE_VERSION})]
    """Version of the recipe language."""

    name: Annotated[
        str, AfterValidator(_is_a_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME.pattern}$"})
    ]
    """The model's name: small letters, digits, `.`, `_` and `-`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Everything random flows from it."""

    gates: tuple[GateForm, ...] = ()
    """Conditions that must hold, or the command fails with the gate's exit code."""
