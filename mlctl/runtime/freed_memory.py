"""What a process has freed and the C library keeps for later."""

import ctypes


def give_back() -> None:
    """Give freed memory back to the system, where the C library can (glibc's `malloc_trim`).

    Loading a graph leaves as much behind as its weights take, and other threads cannot use it.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
