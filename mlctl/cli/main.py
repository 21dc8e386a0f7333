"""The console script. Whatever can be answered without a command line parser is answered first."""

import gc
import io
import os
import sys

from mlctl import __version__

CTRL_C = 130
YOUNG_OBJECTS = 10_000
"""How many are made before Python looks for garbage among them. It looks at 700 by itself, over a thousand times while
torch is imported, of which nothing is garbage."""

# From its import on, ONNX Runtime counts sessions in files of its own and may send them away, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def main() -> None:
    """Run the command line in `sys.argv` and exit with its code."""
    _fill_descriptors()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where the locale has no arrow, a question mark is better than no answer.
            stream.reconfigure(errors="replace")
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"mlctl {__version__}\n")
        return
    gc.set_threshold(YOUNG_OBJECTS)
    try:
        from mlctl.cli.boundary import run
    except KeyboardInterrupt:
        sys.exit(CTRL_C)
    code = run(sys.argv[1:])
    # At its end Python looks through all objects again; after torch that takes 0.3 s, and the system takes all anyway.
    gc.freeze()
    sys.exit(code)


def _fill_descriptors() -> None:
    """Let the null device stand for each of stdin, stdout and stderr that is closed.

    A socket or a file would get its number otherwise, and be written to as if it were that stream, or never be closed.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free, which it is, since those below are taken.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8"))
