"""What the settings' source says under each field, read only when somebody asks."""

import ast
import sys
from functools import cache
from inspect import cleandoc
from pathlib import Path

from mlctl.recipe.base import Settings


def field_docs(owner: type[Settings]) -> dict[str, str]:
    """The text under every field of the class, its parents' fields included, as one line each, by the recipe's key."""
    texts: dict[str, str] = {}
    for parent in reversed(owner.__mro__):
        if issubclass(parent, Settings) and parent is not Settings:
            texts |= _module_docs(parent.__module__).get(parent.__name__, {})
    return {field.alias or name: texts[name] for name, field in owner.model_fields.items()}


def class_doc(owner: type[Settings]) -> str:
    """The class's docstring as one line."""
    return _line(owner.__doc__ or "")


@cache
def _module_docs(module: str) -> dict[str, dict[str, str]]:
    source = Path(str(sys.modules[module].__file__)).read_text(encoding="utf-8")
    return {node.name: _class_docs(node) for node in ast.parse(source).body if isinstance(node, ast.ClassDef)}


def _class_docs(owner: ast.ClassDef) -> dict[str, str]:
    docs: dict[str, str] = {}
    for field, below in zip(owner.body, owner.body[1:], strict=False):
        if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
            continue
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str):
            docs[field.target.id] = _line(below.value.value)
    return docs


def _line(text: str) -> str:
    return " ".join(cleandoc(text).split())
