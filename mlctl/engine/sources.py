"""Digests of files outside the store, computed once and remembered."""

import errno
import json
import os.path
import time
from contextlib import suppress
from pathlib import Path
from stat import S_ISREG
from typing import Final

from mlctl.digests import file_digest
from mlctl.engine.fingerprint import SourceFile
from mlctl.engine.store import write_whole
from mlctl.errors import DataError

# A file that changed within this time of being hashed could change again without its times showing it.
SETTLED_NANOSECONDS: Final = 2_000_000_000


class SourceLedger:
    """Remembers SHA-256 by path, size, modification and change time and inode."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, list[int | str]] = _read(path)
        self._is_changed = False

    def look(self, file: Path, base: Path) -> SourceFile:
        """The file's digest, read only when it is not remembered; its path is told from the folder `base`.

        Raises DataError when it cannot be read.
        """
        absolute, root = Path(os.path.abspath(file)), Path(os.path.abspath(base))  # noqa: PTH100
        name = Path(os.path.relpath(absolute, root)).as_posix()
        try:
            return SourceFile(name, self._digest(absolute), absolute.stat().st_size)
        except OSError as error:
            raise DataError(
                f"the file cannot be read ({error.strerror})", where=file, next="check `prepare.source`"
            ) from error

    def save(self) -> None:
        """Write what was learnt; a ledger that cannot be written is only slower."""
        if not self._is_changed:
            return
        with suppress(OSError):
            write_whole(self._path, json.dumps(self._known))
            self._is_changed = False

    def _digest(self, path: Path) -> str:
        seen = _stamp(path)
        known = self._known.get(str(path))
        if known and known[:-1] == seen:
            return str(known[-1])
        sha256 = file_digest(path)
        if _stamp(path) == seen and max(seen[1], seen[2]) < time.time_ns() - SETTLED_NANOSECONDS:
            self._known[str(path)] = [*seen, sha256]
            self._is_changed = True
        return sha256


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    if not S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read(path: Path) -> dict[str, list[int | str]]:
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(known, dict):
        return {}
    return {key: value for key, value in known.items() if isinstance(value, list) and len(value) == 5}
