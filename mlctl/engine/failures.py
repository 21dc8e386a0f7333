"""What the operating system refuses, in mlctl's words."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from mlctl.errors import DiskFull, MachineError, OutOfMemory

# A file-size limit looks like a full disk to whoever writes, and is mended in the same way.
NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def system_refusals() -> Iterator[None]:
    """Raise DiskFull, MachineError or OutOfMemory for what the operating system says in its own words."""
    try:
        yield
    except MemoryError as error:
        raise OutOfMemory("there is not enough memory for this step") from error
    except OSError as error:
        if error.errno in NO_SPACE:
            raise DiskFull("there is no room to write", where=error.filename) from error
        if error.errno in NO_PERMISSION:
            raise MachineError(f"writing or reading is refused ({error.strerror})", where=error.filename) from error
        raise
