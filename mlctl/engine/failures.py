"""What the operating system refuses, in mlctl's words."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlctl.errors import DiskFull, MachineError, OutOfMemory, UsageError

# A file-size limit looks like a full disk to whoever writes, and is mended in the same way.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
NO_SUCH_PLACE = {
    errno.EISDIR: "this is a folder, where a file is needed",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "something else stands in this place",
    errno.ENAMETOOLONG: "this name is too long for a file",
    errno.ELOOP: "this is a link that leads to itself",
}
# numpy.save says that the disk is full without an error number.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def system_refusals(place: Path, *, when_full: str | None = None) -> Iterator[None]:
    """Raise DiskFull, MachineError, OutOfMemory or UsageError for what the operating system says in its own words.

    `place` is where work is done, for a refusal that names no file. `when_full` says what to do where its disk is full
    and holds no store; then it is named whatever file was written.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory for this step") from error
    except OSError as error:
        # Of a file that is copied to another, the first is the one that was read.
        target = getattr(error, "filename2", None) or error.filename
        if error.errno in NO_SPACE or (error.errno is None and SHORT_WRITE.search(str(error))):
            where = place if when_full else target or place
            raise DiskFull("there is no room to write", where=where, next=when_full) from error
        if error.errno in NO_PERMISSION:
            raise MachineError(
                f"writing or reading is refused ({error.strerror})", where=error.filename or place
            ) from error
        if error.errno in NO_SUCH_PLACE:
            what = NO_SUCH_PLACE[error.errno]
            raise UsageError(
                what, where=error.filename or place, next="name another place, or move what is there away"
            ) from error
        raise
