"""The folder in which downloads are kept, each under its digest, and what is half-made beside them."""

import errno
import fcntl
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

from mlctl.digests import digest, file_digest
from mlctl.errors import DiskFull, MachineError
from mlctl.units import size_text

NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# A file that changed so shortly before it was read could change again without its times showing it.
SETTLED_NANOSECONDS: Final = 2_000_000_000
ELSEWHERE: Final = "free some space, or let XDG_CACHE_HOME name another disk"


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/mlctl/downloads`, by default beneath `~/.cache` (XDG base directory specification).

    Raises MachineError where there is no home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        # The specification has relative paths ignored.
        root = named if named.is_absolute() else Path.home() / ".cache"
    except RuntimeError as error:
        raise MachineError("there is no home folder to keep downloads in", next="set XDG_CACHE_HOME") from error
    return root / "mlctl" / "downloads"


@contextmanager
def disk_refusals(place: Path) -> Iterator[None]:
    """Raise DiskFull or MachineError for what the operating system says about files at `place`."""
    try:
        yield
    except OSError as error:
        raise disk_refusal(error, place) from error


def disk_refusal(error: OSError, place: Path) -> MachineError:
    """What the operating system says about files at `place`, in mlctl's words."""
    where = error.filename or place
    if error.errno in NO_ROOM:
        return DiskFull("there is no room for the download", where=where, next=ELSEWHERE)
    what = f"downloads cannot be kept here ({error.strerror or error})"
    return MachineError(
        what, where=where, next="set XDG_CACHE_HOME (or HF_HOME, for files of the hub) to another folder"
    )


def check_room(folder: Path, wanted: int) -> None:
    """Raise DiskFull where fewer than `wanted` bytes are free."""
    free = shutil.disk_usage(folder).free
    if wanted > free:
        what = f"the download needs {size_text(wanted)}, and {size_text(free)} are free"
        raise DiskFull(what, where=folder, next=ELSEWHERE)


@contextmanager
def held(lock: Path, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock file, which a process that ends lets go of; `on_wait` is called once where another holds it."""
    with lock.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def is_whole(path: Path, sha256: str) -> bool:
    """Whether the file is there with these bytes; one that stays as it is is read once in a process."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return False
    stamp = status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    is_settled = max(status.st_mtime_ns, status.st_ctime_ns) < time.time_ns() - SETTLED_NANOSECONDS
    return (_digest(path, stamp) if is_settled else file_digest(path)) == sha256


@lru_cache(maxsize=1024)
def _digest(path: Path, stamp: tuple[int, ...]) -> str:
    return file_digest(path)


@dataclass(frozen=True)
class Partial:
    """A download that is not whole yet: its bytes so far, and what the server calls that version of the file."""

    bytes_path: Path
    record_path: Path

    @classmethod
    def of(cls, folder: Path, sha256: str) -> Self:
        """The one of the file with this digest."""
        return cls(folder / f"{sha256}.part", folder / f"{sha256}.json")

    def size(self) -> int:
        """Bytes that are there."""
        return self.bytes_path.stat().st_size if self.bytes_path.exists() else 0

    def validator(self, url: str) -> str | None:
        """What `url` called this version (an ETag or a date, RFC 9110 section 13.1.5), None where that is not known."""
        try:
            record = json.loads(self.record_path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        is_ours = isinstance(record, dict) and record.get("url") == digest(url)
        validator = record.get("validator") if is_ours else None
        return validator if isinstance(validator, str) and validator.isprintable() else None

    def begin(self, url: str, validator: str | None) -> None:
        """Drop what is there, for a version that `url` calls `validator`."""
        self.remove()
        # The address itself may be signed; its digest tells it apart as well.
        self.record_path.write_text(json.dumps({"url": digest(url), "validator": validator}))

    def publish(self, path: Path) -> None:
        """Make the bytes the file `path`."""
        with self.bytes_path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.parent.mkdir(parents=True, exist_ok=True)
        self.bytes_path.replace(path)
        self.remove()

    def remove(self) -> None:
        """Forget it."""
        for path in (self.record_path, self.bytes_path):
            with suppress(FileNotFoundError):
                path.unlink()
