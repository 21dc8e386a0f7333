"""What is written into a model's folder is seen whole or not at all, and outlives a power cut."""

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from mlctl.engine.failures import system_refusals

_ASIDE: Final = ".writing-"
"""How names begin of what is not finished: neither Triton nor we take them for a version."""

_WHEN_FULL: Final = (
    "make room on the disk of this repository, as by moving versions away that no label needs, "
    "and run the same command again"
)


def repository_refusals(root: Path) -> AbstractContextManager[None]:
    """Raise what `system_refusals` does; a full disk is told as that of the repository."""
    return system_refusals(root, when_full=_WHEN_FULL)


def aside(folder: Path, name: str) -> Path:
    """A place in `folder` for what is to be renamed to `name` when it is finished."""
    return folder / f"{_ASIDE}{name}.{os.getpid()}"


def write_durably(path: Path, text: str) -> None:
    """Write a small file, over what stood there. Raises OSError."""
    unfinished = aside(path.parent, path.name)
    try:
        with unfinished.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Force the folder's own entries to disk."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left; only for whoever holds the folder's lock."""
    for path in folder.glob(f"{_ASIDE}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
