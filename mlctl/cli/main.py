"""The console script. Whatever can be answered without a command line parser is answered first."""

import io
import os
import sys

from mlctl import __version__

CTRL_C = 130

# From its import on, ONNX Runtime counts sessions in files of its own and may send them away, unless told not to.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")


def main() -> None:
    """Run the command line in `sys.argv` and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Where the locale has no arrow, a question mark is better than no answer.
            stream.reconfigure(errors="replace")
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"mlctl {__version__}\n")
        return
    try:
        from mlctl.cli.boundary import run
    except KeyboardInterrupt:
        sys.exit(CTRL_C)
    sys.exit(run(sys.argv[1:]))
