"""The one place where errors become messages and exit codes."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from typer import Abort
from typer._click import exceptions as click

from mlctl.cli.app import app_for
from mlctl.engine.failures import system_refusals
from mlctl.errors import DiskFull, Interrupted, MlctlError, UsageError

BUG = 1
BROKEN_PIPE = 141


def run(arguments: Sequence[str]) -> int:
    """The exit code of a command line, after its message if it failed."""
    try:
        with system_refusals(Path("standard output")):
            code = _code(app_for(arguments)(list(arguments), prog_name="mlctl", standalone_mode=False))
            sys.stdout.flush()
        return code
    except click.ClickException as error:
        return _refused(error, arguments)
    except (MlctlError, Interrupted) as error:
        return _failed(error, arguments)
    except (Abort, KeyboardInterrupt):
        return _failed(Interrupted(signal.SIGINT), arguments)
    except (BrokenPipeError, SystemExit):
        # Whoever read our output has gone, which Typer turns into an exit; there is nobody left to tell.
        _drop_output()
        return BROKEN_PIPE
    except Exception as error:  # noqa: BLE001
        return _show_bug(error, arguments)


def _failed(error: MlctlError | Interrupted, arguments: Sequence[str]) -> int:
    from mlctl.cli.failure import show_failure

    if "--debug" in arguments:
        traceback.print_exception(error)
    if isinstance(error, DiskFull):
        # What is left of our output would be refused once more at the end of the process.
        _drop_output()
    return show_failure(error, arguments)


def _drop_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _refused(error: click.ClickException, arguments: Sequence[str]) -> int:
    if isinstance(error, click.NoArgsIsHelpError):
        sys.stdout.write(f"{error.format_message()}\n")
        return UsageError.exit_code
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "mlctl"
    refusal = UsageError(error.format_message(), next=f"`{command} --help` shows what it takes")
    return _failed(refusal, arguments)


def _code(result: object) -> int:
    return result if isinstance(result, int) else 0


def _show_bug(error: Exception, arguments: Sequence[str]) -> int:
    if "--debug" in arguments:
        traceback.print_exception(error)
    what = f"{type(error).__name__}: {error}".splitlines()[0]
    sys.stderr.write(f"mlctl: a bug in mlctl: {what}\n  next: report it with what `--debug` prints\n")
    return BUG
