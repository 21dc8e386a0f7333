"""Networks of the user's own: code that is imported only where the command line allows it."""

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

import torch

from mlctl.errors import StepFailed, UsageError

CODE_FAILURES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""What a mistake in a module or in its arguments raises."""

NOT_THEIRS = ("<frozen", importlib.__file__, str(Path(torch.__file__).parent), str(Path(__file__).parents[1]))


def imported_network(arch: str, folder: Path | None) -> Callable[..., Any]:
    """What makes the network that `package.module:Class` names, imported from `folder` or from what is installed.

    Raises UsageError where `folder` is None, which says that no code may run, and StepFailed where the import fails;
    what is returned raises StepFailed where the class cannot be called as it is.
    """
    if folder is None:
        raise UsageError(f"{arch} is code of your own", next="allow it to run with `--allow-code`")
    module, _, name = arch.partition(":")
    with (
        named_code(f"{arch} cannot be imported", "mend the module, or `train.model.arch`"),
        _importable(folder),
        redirect_stdout(sys.stderr),
    ):
        network: Callable[..., Any] = getattr(importlib.import_module(module), name)

    def made(*arguments: Any, **more: Any) -> Any:
        with named_code(f"{arch} cannot be made", "mend the class, or `train.model.arguments`"):
            return network(*arguments, **more)

    return made


@contextmanager
def named_code(what: str, next: str) -> Iterator[None]:
    """Within it, a mistake in a user's own code raises StepFailed with the line that it comes from."""
    try:
        yield
    except CODE_FAILURES as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise StepFailed(f"{what}: {said}{_place(error)}", next=next) from error


def _place(error: BaseException) -> str:
    """The innermost line that is neither ours nor of what we call."""
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(NOT_THEIRS)]
    return f" ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})" if theirs else ""


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    place, writes_none = str(folder.absolute()), sys.dont_write_bytecode
    sys.path.insert(0, place)
    # Bytecode is told from its source by size and whole seconds: an edit could be missed, and the folder is the user's.
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_none
        sys.path.remove(place)
