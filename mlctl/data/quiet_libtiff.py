"""libtiff writes what it thinks of damaged files to stderr, from C, in between whatever the command says there."""

import ctypes
from functools import cache
from pathlib import Path

_LOADED = Path("/proc/self/maps")


@cache
def silence_libtiff() -> None:
    """Let the libtiff that this process has loaded say nothing; whoever decodes gets an error all the same.

    Pillow has no way to ask for that, so libtiff's own is called (TIFFSetErrorHandler, TIFFSetWarningHandler). Where
    the system does not tell which libraries are loaded, or Pillow has libtiff built in, nothing happens.
    """
    if not _LOADED.exists():
        return
    files = {line.rpartition(" ")[2] for line in _LOADED.read_text().splitlines() if "/libtiff" in line}
    for file in files:
        library = ctypes.CDLL(file)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            # It gives back the handler before, a pointer, which ctypes would cut to an int.
            setter = getattr(library, name, None)
            if setter is not None:
                setter.restype = ctypes.c_void_p
                setter(None)
