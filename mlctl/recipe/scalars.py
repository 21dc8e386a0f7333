"""What a plain YAML scalar means, by the core schema of YAML 1.2 (section 10.3)."""

import re
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool | None

NUMBER_CHARACTERS = 400  # more digits than any setting has; Python itself refuses to read above 4,300

_WORDS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}  # fmt: skip
INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(?:inf|Inf|INF)")
_BASES = {"0o": 8, "0x": 16}


def resolved_scalar(text: str) -> Scalar:
    """The value of a plain scalar. Raises ValueError for a number of more than 400 characters."""
    if text in _WORDS:
        return _WORDS[text]
    if text in (".nan", ".NaN", ".NAN"):
        return float("nan")
    if match := _INFINITY.fullmatch(text):
        return float(f"{match[1]}inf")
    is_integer = INTEGER.fullmatch(text)
    if not is_integer and not FLOAT.fullmatch(text):
        return text
    if len(text) > NUMBER_CHARACTERS:
        raise ValueError(f"a number of {len(text):,} characters; {NUMBER_CHARACTERS} are the most that is read")
    return (
        int(text.removeprefix(text[:2]), _BASES[text[:2]]) if text[:2] in _BASES else _decimal(text, bool(is_integer))
    )


def _decimal(text: str, is_integer: bool) -> int | float:
    return int(text) if is_integer else float(text)
