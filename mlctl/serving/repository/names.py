"""What models, versions and labels may be called, so that a name never leads out of its folder."""

import re
from typing import Final

from mlctl.errors import UsageError

PRODUCTION: Final = "production"
"""The label of the version that answers whoever names none."""

_VERSION: Final = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
"""Triton's own rule: a folder that begins with 0, or is no number, is no version; its numbers have 64 bits."""
_LABEL: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}", re.ASCII)
_LONGEST: Final = 255
"""Bytes that a file system takes for one name."""


def is_model_name(text: str) -> bool:
    """Whether a folder of this name can hold a model: one plain name, seen, without `/`, `\\`, `@` or controls."""
    if not text or text.startswith(".") or not text.isprintable() or set(text) & {"/", "\\", "@"}:
        return False
    return len(text.encode("utf-8", "surrogateescape")) <= _LONGEST


def is_version(text: str) -> bool:
    """Whether a folder of this name can hold a version: a whole number from 1, without zeros in front."""
    return _VERSION.fullmatch(text) is not None


def require_model_name(text: str) -> str:
    """The name, if a model can have it. Raises UsageError."""
    if not is_model_name(text):
        raise UsageError(
            f"{text!r} cannot be a model's name",
            next="write a name without `/`, `@` and control characters that does not begin with a dot",
        )
    return text


def require_label(text: str) -> str:
    """The label, if there can be one of that name. Raises UsageError."""
    if not _LABEL.fullmatch(text):
        raise UsageError(
            f"{text!r} cannot be a label",
            next="begin it with a letter, and go on with letters, digits, '.', '_' and '-'; 64 in all",
        )
    return text


def model_and_version(text: str) -> tuple[str, int]:
    """What `NAME@VERSION` names. Raises UsageError."""
    name, _, version = text.rpartition("@")
    if not is_version(version):
        raise UsageError(
            f"{text!r} names no version of a model", next="write NAME@VERSION, such as digits@3; `mlctl models` lists"
        )
    return require_model_name(name), int(version)
