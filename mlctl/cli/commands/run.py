"""`mlctl run`: the whole recipe."""

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    ForceOption,
    JsonFlag,
    JunitOption,
    KeepGoingFlag,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
    UntilOption,
)


def run(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    set_: SetOption = None,
    store: StoreOption = None,
    until: UntilOption = None,
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
    """Run the whole recipe: every step that is not there yet, then the gates."""
    from mlctl.cli.output import Output
    from mlctl.cli.session import Session, run_options

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    plan = session.plan(session.until(until), force or ())
    output = Output(as_json=json, is_quiet=quiet, junit=junit)
    return output.finish(session.run("run", plan, run_options(device, threads, keep_going, allow_code), output))
