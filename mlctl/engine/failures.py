"""What the operating system refuses, in mlctl's words."""

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlctl.errors import DiskFull, MachineError, OutOfMemory

# A file-size limit looks like a full disk to whoever writes, and is mended in the same way.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}
# numpy.save says that the disk is full without an error number.
SHORT_WRITE = re.compile(r"\d+ requested and \d+ written")


@contextmanager
def system_refusals(place: Path) -> Iterator[None]:
    """Raise DiskFull, MachineError or OutOfMemory for what the operating system says in its own words.

    `place` is where work is done, for a refusal that names no file.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory for this step") from error
    except OSError as error:
        where = error.filename or place
        if error.errno in NO_SPACE or (error.errno is None and SHORT_WRITE.search(str(error))):
            raise DiskFull("there is no room to write", where=where) from error
        if error.errno in NO_PERMISSION:
            raise MachineError(f"writing or reading is refused ({error.strerror})", where=where) from error
        raise
