"""Who used which version, and when: a line for every inference and every management call, in a file that only grows."""

import hashlib
import os
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol

from mlctl.engine.failures import system_refusals
from mlctl.errors import UsageError
from mlctl.events import Note, Tell, Warned, silent
from mlctl.serving.refusals import NotReady, Unauthorized
from mlctl.serving.telemetry.json_lines import json_line, utc_text

LOOK_SECONDS: Final = 1.0
"""How long lines may still go to a file that was renamed."""
TRY_SECONDS: Final = 1.0
"""How long after a line could not be written another try is worth it."""


@dataclass(frozen=True, slots=True)
class Use:
    """One inference or management call that was answered."""

    caller: str
    client: str
    """The address."""
    action: str
    """`infer`, `load`, `unload` and the like."""
    model: str
    version: int | None
    status: int
    body: bytes
    """Of the request; only its hash is kept."""


class Audit(Protocol):
    """Keeps account of what was done."""

    is_kept: bool
    """Whether anything is written at all."""

    def require_writable(self) -> None:
        """To be called before anything is computed or changed. Raises NotReady while nothing can be written."""

    def record(self, use: Use) -> None:
        """To be called before an answer is sent, which a NotReady takes the place of where it could not be written."""

    def close(self) -> None:
        """Let everything reach the disk."""


def audit_of(path: Path | None, tell: Tell = silent) -> Audit:
    """The audit that writes to a file, or one that writes nothing.

    `tell` hears when the file can no longer be written, and when it can again. Raises UsageError and MachineError
    where the file cannot be written now.
    """
    return _Unaudited() if path is None else FileAudit(path, tell)


class _Unaudited:
    """Nobody asked for an account."""

    is_kept = False

    def require_writable(self) -> None:
        """It is not written."""

    def record(self, use: Use) -> None:
        """Nothing."""

    def close(self) -> None:
        """There is nothing."""


class FileAudit:
    """Lines of JSON, appended one by one, each in the file before its answer goes out.

    An audit that can be skipped is none. So an answer whose line cannot be written is held back, and until a line can
    be written again nothing more is computed: callers get 503. The lines of what was on its way are kept, and are the
    first to be written. A line that a full disk cut short is ended there, and written again whole.

    A file that was renamed, or taken away, is noticed within a second, and a new one is begun, as rotation wants it.
    Lines survive the end of the process at once, and a power cut once the system has written them out.
    """

    is_kept = True

    def __init__(
        self,
        path: Path,
        tell: Tell = silent,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds that never go back, `now` Unix time. Raises UsageError and MachineError."""
        self._path = path
        self._tell = tell
        self._clock = clock
        self._now = now
        self._owed = b""
        """What could not be written."""
        self._again = 0.0
        """When writing that is worth a try."""
        self._looked = clock()
        if not path.parent.is_dir():
            raise UsageError("there is no such folder", where=path.parent, next="make it, or name another file")
        with system_refusals(path, when_full="make room on the disk of this file, and start the server again"):
            self._file = _opened(path)

    def require_writable(self) -> None:
        """Write what is owed, if it is time to try. Raises NotReady while that fails."""
        if not self._owed:
            return
        if self._clock() >= self._again and self._settled():
            self._tell(Note(f"{self._path}: the audit is written again"))
            return
        raise self._refusal()

    def record(self, use: Use) -> None:
        """Append the line of one use. Raises NotReady where it cannot be.

        A refusal goes out all the same, since nothing was used. Who gave no token that is known gets no line: anybody
        could fill the disk with those.
        """
        is_refusal = use.status >= 400
        if use.status == Unauthorized.status or (is_refusal and self._owed):
            return
        line = self._line(use)
        if not self._owed:
            written = self._written(line)
            if written == len(line):
                return
            self._again = self._clock() + TRY_SECONDS
            self._tell(Warned(f"{self._path}: the audit cannot be written, and nothing is served until it can be"))
            self._owed = _rest(line, written)
            if is_refusal or self._owed == b"\n":
                return
            self._owed = self._owed.removesuffix(line)
        refusal = self._refusal()
        self._owed += self._line(replace(use, status=refusal.status))
        raise refusal

    def close(self) -> None:
        """Write what is owed, if that can be now, and force all to disk."""
        if self._owed:
            self._settled()
        with suppress(OSError):
            os.fsync(self._file)
        os.close(self._file)

    def _refusal(self) -> NotReady:
        return NotReady("the audit cannot be written, and nothing is served without it", retry_after=TRY_SECONDS)

    def _settled(self) -> bool:
        """Whether all that was owed is written now."""
        self._looked = -LOOK_SECONDS
        self._owed = _rest(self._owed, self._written(self._owed))
        self._again = self._clock() + TRY_SECONDS
        return not self._owed

    def _written(self, line: bytes) -> int:
        """How many bytes the file took."""
        try:
            self._follow_rotation()
            return os.write(self._file, line)
        except (OSError, UsageError):
            # Where the path leads to nothing that can be written, the file that is still open is nobody's account.
            self._looked = -LOOK_SECONDS
            return 0

    def _follow_rotation(self) -> None:
        """Begin a new file where the path leads to another one by now, or to none. Raises OSError and UsageError."""
        clock = self._clock()
        if clock - self._looked < LOOK_SECONDS:
            return
        with suppress(FileNotFoundError):
            ours, there = os.fstat(self._file), os.stat(self._path)  # noqa: PTH116 -- a third of the time of Path.stat
            if (there.st_ino, there.st_dev) == (ours.st_ino, ours.st_dev):
                self._looked = clock
                return
        new = _opened(self._path)
        os.close(self._file)
        self._file = new
        self._looked = clock

    def _line(self, use: Use) -> bytes:
        return json_line(
            {
                "time": utc_text(self._now()),
                "caller": use.caller,
                "client": use.client,
                "action": use.action,
                "model": use.model,
                "version": use.version,
                "status": use.status,
                "sha256": hashlib.sha256(use.body).hexdigest(),
            }
        )


def _rest(lines: bytes, written: int) -> bytes:
    """What is left to write where the file took so many bytes: a line that was cut is ended, and comes again whole."""
    begin = lines.rfind(b"\n", 0, written) + 1
    is_cut = begin < written and lines[written : written + 1] != b"\n"
    return b"\n" + lines[begin:] if is_cut else lines[written:]


def _opened(path: Path) -> int:
    """A descriptor that appends to a regular file, whose last line is ended. Raises UsageError and OSError."""
    # Without O_NONBLOCK a named pipe that nobody reads would keep the server from starting.
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK
    file = os.open(path, flags, 0o600)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode):
            raise UsageError("the audit needs a file of its own", where=path, next="name no device and no pipe")
        if found.st_size and os.pread(file, 1, found.st_size - 1) != b"\n":
            os.write(file, b"\n")
    except BaseException:
        os.close(file)
        raise
    return file
