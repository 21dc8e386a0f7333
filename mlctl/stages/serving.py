"""A server, from what is to be served to its end."""

import gc
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlctl.serving.settings import ServerSettings
    from mlctl.serving.shelf import Shelf


@dataclass(frozen=True)
class OneModel:
    """One graph, and what its model is called."""

    name: str
    graph: Path


def serve(what: OneModel | Path, settings: "ServerSettings", *, as_json: bool, is_quiet: bool) -> int:
    """Serve one model, or all of a repository (its folder), until SIGTERM or Ctrl-C; the exit code.

    What happens is told on stderr; with `as_json` stdout gets one JSON document once requests are taken. Raises
    DataError, UsageError and MachineError for what keeps the server from starting, StepFailed where requests that it
    had accepted were not finished in time.
    """
    # A server multiplies no matrices with NumPy, whose OpenBLAS would start threads that spin for their first 40 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    # Nothing is garbage of what is imported and loaded; the server lets Python look for it once it takes requests.
    gc.disable()
    try:
        from mlctl.serving.server import Server

        Server(shelf_of(what), settings, is_quiet=is_quiet, as_json=as_json).run()
    finally:
        gc.enable()
    return 0


def shelf_of(what: OneModel | Path) -> "Shelf":
    """Where a server's models come from: the file, or the repository in the folder."""
    from mlctl.serving.shelf import OneFile

    if isinstance(what, OneModel):
        return OneFile(what.name, what.graph)
    # A repository's rules and records are of no use to a server of a file.
    from mlctl.serving.repository.repository import Repository

    return Repository(what)
