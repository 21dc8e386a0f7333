"""Where the code of a user's own network lies. Planning asks for it, so nothing heavy is imported here."""

import sys
from pathlib import Path

from mlctl.errors import UsageError


def code_file(arch: str, folder: Path) -> Path:
    """The file of the module that `package.module:Class` names, below `folder` or installed; nothing is imported.

    Raises UsageError when there is none.
    """
    module, _, _ = arch.partition(":")
    parts = Path(*module.split("."))
    for place in (folder, *map(Path, sys.path)):
        # Of a package and a module with one name, Python takes the package.
        for file in (place / parts / "__init__.py", place / parts.with_suffix(".py")):
            if file.is_file():
                return file
    raise UsageError(
        f"there is no module {module}",
        where=folder / parts.with_suffix(".py"),
        next="put it beside the recipe, or install its package",
    )
