"""`mlctl verify`: every stored byte is read again, or a training is killed and resumed."""

import json as json_text
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    JsonFlag,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)
from mlctl.errors import UsageError

if TYPE_CHECKING:
    from mlctl.engine.store import Store


ResumeFlag: TypeAlias = Annotated[
    bool, typer.Option("--resume", help="Train, kill a copy at a random step, resume it, and compare the weights.")
]
SeedOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--seed", min=0, metavar="N", help="What decides the step, for --resume; drawn by default."),
]


def verify(
    recipe: RecipeArgument,
    resume: ResumeFlag = False,
    seed: SeedOption = None,
    set_: SetOption = None,
    store: StoreOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Read every file of the store again; exit 3 names what is damaged. With --resume, exit 21 where weights differ."""
    from mlctl.cli.output import Output
    from mlctl.cli.resume_view import verified
    from mlctl.cli.session import Session, run_options

    if resume:
        session, output = Session(recipe, tuple(set_ or ()), store), Output(as_json=json, is_quiet=quiet)
        options = run_options(device, threads, keep_going=False, allow_code=allow_code)
        return verified(session, options, seed, output)
    if seed is not None or set_ or allow_code:
        raise UsageError(
            "`--seed`, `--set` and `--allow-code` are for `--resume`", next="add `--resume`, or leave them out"
        )
    if not recipe.is_file():
        raise UsageError("there is no such recipe", where=recipe, next="name the recipe whose store is to be read")
    return read_again(recipe, Session(recipe, (), store).store, json=json)


def read_again(recipe: Path, store: "Store", *, json: bool) -> int:
    """Show whether every artifact of the store is what was written; the exit code."""
    from mlctl.engine.verification import verify_store
    from mlctl.units import plural

    checks = verify_store(store)
    if json:
        sys.stdout.write(json_text.dumps([asdict(check) for check in checks], indent=2) + "\n")
    else:
        for check in checks:
            sys.stdout.write(f"{check.step:<12} {check.fingerprint[:12]}  {check.damage or 'whole'}\n")
            if check.damage:
                sys.stderr.write(f"  next: `mlctl run {recipe} --force {check.step}` makes it again\n")
        damaged = sum(check.damage is not None for check in checks)
        word = f"{damaged:,} damaged" if damaged else "all whole" if checks else "nothing to read"
        sys.stdout.write(f"{store.root}: {plural(len(checks), 'artifact')}, {word}\n")
    return max((check.exit_code for check in checks), default=0)
