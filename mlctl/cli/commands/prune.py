"""`mlctl prune`: the prune steps, or what every layer's units are worth."""

from typing import Annotated, TypeAlias

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    ForceOption,
    JsonFlag,
    JunitOption,
    KeepGoingFlag,
    OutputOption,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)
from mlctl.errors import UsageError

SensitivityFlag: TypeAlias = Annotated[
    bool, typer.Option("--sensitivity", help="Take units out of one layer at a time instead; nothing is pruned.")
]


def prune(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    sensitivity: SensitivityFlag = False,
    output: OutputOption = None,
    set_: SetOption = None,
    store: StoreOption = None,
    force: ForceOption = None,
    keep_going: KeepGoingFlag = False,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    junit: JunitOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Take parts out of a network; with --sensitivity, draw what every layer's units are worth into --output."""
    from mlctl.cli.output import Output
    from mlctl.cli.session import Session, run_options

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    spoken = Output(as_json=json, is_quiet=quiet, junit=junit)
    options = run_options(device, threads, keep_going, allow_code)
    if sensitivity:
        if force:
            raise UsageError("`--sensitivity` makes no step that could be forced", next="leave out `--force`")
        from mlctl.cli.layers import show_sensitivity

        return show_sensitivity(session, options, spoken, output)
    if output:
        raise UsageError(
            "`--output` is where `--sensitivity` draws its curves", next="add `--sensitivity`, or leave it out"
        )
    plan = session.plan(session.needed_for("prune"), force or ())
    return spoken.finish(session.run("prune", plan, options, spoken))
