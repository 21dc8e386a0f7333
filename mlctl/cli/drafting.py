"""Writes a new recipe, and the schema that editors check it against."""

import json
from pathlib import Path

from mlctl.cli.session import STORE_NAME
from mlctl.engine.failures import system_refusals
from mlctl.engine.store import Store
from mlctl.errors import UsageError
from mlctl.recipe.schema import schema


def check_free(path: Path) -> None:
    """Raise UsageError when there is a file already, or no folder for it."""
    if path.exists():
        raise UsageError("the file is already there", where=path, next="name another one with `--output FILE`")
    if not path.parent.is_dir():
        raise UsageError("the folder is not there", where=path.parent, next="make it, or name another `--output FILE`")


def write_recipe(path: Path, text: str) -> None:
    """Write the recipe, and `schema.json` into the store beside it, where the recipe's first line points."""
    with system_refusals(path.parent):
        store = Store(path.parent / STORE_NAME)
        store.prepare()
        (store.root / "schema.json").write_text(
            json.dumps(schema(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        path.write_text(text, encoding="utf-8")
