"""Where the code of a user's own network lies. Planning asks for it, so nothing heavy is imported here."""

import sys
from pathlib import Path

from mlctl.errors import UsageError


def code_files(arch: str, folder: Path) -> tuple[Path, ...]:
    """Every module in the folder of the one that `package.module:Class` names, for it may import them.

    It is looked for below `folder`, then among what is installed; nothing is imported. Raises UsageError when there
    is none.
    """
    return tuple(sorted(_module_file(arch.partition(":")[0], folder).parent.glob("*.py")))


def _module_file(module: str, folder: Path) -> Path:
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
