"""How the C library deals with the large tensors that every step makes and drops."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# malloc.h of glibc
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -2, -3, -4
_KEEPING = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1), (_TOP_PAD, 64 << 20))
# glibc raises its thresholds with what is freed, until somebody sets any of these: the last two are where it ends.
_USUAL = ((_MMAP_MAX, 65_536), (_TOP_PAD, 128 << 10), (_MMAP_THRESHOLD, 32 << 20), (_TRIM_THRESHOLD, 64 << 20))


@contextmanager
def kept_memory(device: torch.device) -> Iterator[bool]:
    """Within it, freed memory stays with the process, for the next step wants as much again; gives whether it does.

    Otherwise large tensors come from the system and go back to it at every step, and all their pages are cleared each
    time: a small CNN's step then has 11,900 page faults and not 2,500. No number changes. Afterwards memory goes back.
    glibc alone has this, and only what is computed on the host's processors needs it; elsewhere nothing happens.
    """
    library = ctypes.CDLL(None)
    if device.type != "cpu" or not hasattr(library, "gnu_get_libc_version"):
        yield False
        return
    is_kept = all([library.mallopt(ctypes.c_int(what), ctypes.c_int(value)) for what, value in _KEEPING])
    try:
        yield is_kept
    finally:
        for what, value in _USUAL:
            library.mallopt(ctypes.c_int(what), ctypes.c_int(value))
        library.malloc_trim(ctypes.c_size_t(0))
