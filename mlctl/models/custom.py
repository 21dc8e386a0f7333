"""Networks of the user's own: code that is imported only where the command line allows it."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlctl.errors import StepFailed, UsageError


def code_file(arch: str, folder: Path) -> Path:
    """The file of the module that `package.module:Class` names, below `folder` or installed; nothing is imported.

    Raises UsageError when there is none.
    """
    module, _, _ = arch.partition(":")
    parts = Path(*module.split("."))
    for place in (folder, *map(Path, sys.path)):
        for file in (place / parts.with_suffix(".py"), place / parts / "__init__.py"):
            if file.is_file():
                return file
    raise UsageError(
        f"there is no module {module}", where=folder, next="put it beside the recipe, or install its package"
    )


def imported_network(arch: str, folder: Path | None) -> Callable[..., Any]:
    """The class that `package.module:Class` names, imported from `folder` or from what is installed.

    Raises UsageError where `folder` is None, which says that no code may run, and StepFailed where the import fails.
    """
    if folder is None:
        raise UsageError(f"{arch} is code of your own", next="allow it to run with `--allow-code`")
    module, _, name = arch.partition(":")
    try:
        with _importable(folder):
            found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, SyntaxError) as error:
        raise StepFailed(
            f"{arch} cannot be imported: {error}", next="mend the module, or `train.model.arch`"
        ) from error
    return found


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    place = str(folder.absolute())
    sys.path.insert(0, place)
    try:
        yield
    finally:
        sys.path.remove(place)
