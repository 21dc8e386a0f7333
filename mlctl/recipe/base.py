"""What every settings class is made of."""

from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema
from pydantic.fields import FieldInfo

_WORDS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


class Settings(BaseModel):
    """Frozen, strict about types, and without room for unknown keys.

    A field marked `changes_bytes: False` is about how a step runs, not about what it makes.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, defer_build=True, populate_by_name=True
    )

    def deciding(self, *left_out: str) -> dict[str, Any]:
        """The values that decide what a step makes, as JSON data; `left_out` names fields that do not."""
        return {
            name: value.deciding() if isinstance(value := getattr(self, name), Settings) else value
            for name, field in type(self).model_fields.items()
            if name not in left_out and not _is_aside(field)
        }


def _is_aside(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return isinstance(extra, dict) and extra.get("changes_bytes") is False


def _as_flag(value: object) -> object:
    return _WORDS.get(value.lower(), value) if isinstance(value, str) else value


def _as_many(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Flag: TypeAlias = Annotated[
    bool,
    BeforeValidator(_as_flag),
    WithJsonSchema({"anyOf": [{"type": "boolean"}, {"enum": ["yes", "no", "on", "off"]}]}),
]
"""true or false; yes, no, on and off mean what a person means."""

Names: TypeAlias = Annotated[
    tuple[str, ...],
    BeforeValidator(_as_many),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}),
]
"""One name or a list of them."""

Fraction: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A share: 0 or more, less than 1."""

PositiveFraction: TypeAlias = Annotated[float, Field(gt=0, lt=1)]
"""A share above 0 and below 1."""

Positive: TypeAlias = Annotated[float, Field(gt=0)]
"""A number above 0."""

NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
"""A number that is 0 or more."""

Count: TypeAlias = Annotated[int, Field(ge=1, le=2**53)]
"""A whole number from 1."""

Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""64 hexadecimal digits."""
