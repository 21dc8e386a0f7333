"""`mlctl verify --resume`: what a kill and a resume have changed."""

import json
import secrets
import sys
from dataclasses import asdict

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted
from mlctl.stages.resuming import ResumeCheck, verify_resume

LARGEST_SEED = 2**32


def verified(session: Session, options: RunOptions, seed: int | None, output: Output) -> int:
    """Train, kill a copy, resume it, compare, and show what came of it; the exit code.

    Data that is not prepared yet is prepared in the recipe's own store.
    """
    wanted = session.needed_for("train")
    needed = frozenset(name for name in wanted if not session.life.step(name).stage.is_shared_work)
    verdict = session.run("verify", session.plan(needed), options, Output(is_quiet=output.is_quiet))
    if verdict.exit_code:
        return output.finish(verdict)
    plan = session.plan(wanted)
    session.require_allowed(plan, options)
    seed = secrets.randbelow(LARGEST_SEED) if seed is None else seed
    arguments = _command_line(session, options, is_quiet=output.is_quiet)
    try:
        with raising_interrupts():
            checks = verify_resume(session.store, plan, arguments, seed, output.lines(session.life))
    except Interrupted as error:
        # Typer has an answer of its own to what is a KeyboardInterrupt, and it is not a verdict.
        return output.finish(Verdict(__version__, "verify", str(session.path), failures=(Failure.of(error),)))
    if output.as_json:
        sys.stdout.write(json.dumps([{**asdict(check), "same": check.is_same} for check in checks], indent=2) + "\n")
    else:
        sys.stdout.writelines(map(_text, checks))
    return max(check.exit_code for check in checks)


def _command_line(session: Session, options: RunOptions, *, is_quiet: bool) -> tuple[str, ...]:
    return (
        "train",
        str(session.path),
        *(part for override in session.overrides for part in ("--set", override)),
        *("--device", options.device, "--threads", str(options.threads)),
        *(["--allow-code"] if options.allow_code else []),
        *(["--quiet"] if is_quiet else []),
    )


def _text(check: ResumeCheck) -> str:
    lines = (
        f"killed after step {check.killed_after:,} of {check.steps:,}, resumed after step {check.resumed_from:,}",
        f"{check.undisturbed}  undisturbed",
        f"{check.resumed}  killed and resumed",
        f"{'the same weights' if check.is_same else 'other weights'}; `--seed {check.seed}` does it again",
    )
    return "".join(f"{check.step}  {line}\n" for line in lines)
