"""A command in many processes: checked here, run there."""

import sys

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.plan import Action, Plan
from mlctl.engine.run import say_what_is_kept
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted
from mlctl.stages.launching import Launch, launch


def launched(
    command: str, wanted: Launch, session: Session, plan: Plan, options: RunOptions, output: Output
) -> int | None:
    """The exit code of this process's command line in as many processes as are wanted.

    None where all is made already, so that this process alone can say so. Raises what `launch` does, and UsageError
    where the processes would import code that is not allowed.
    """
    session.require_allowed(plan, options)
    if wanted.is_local and all(step.action is Action.REUSE for step in plan.steps):
        return None
    try:
        with raising_interrupts():
            return launch(wanted, sys.argv[1:], output.lines(session.life))
    except Interrupted as error:
        # Typer has an answer of its own to what is a KeyboardInterrupt, and it is not a verdict.
        say_what_is_kept(error, session.store, plan.steps)
        return output.finish(Verdict(__version__, command, str(session.path), failures=(Failure.of(error),)))
