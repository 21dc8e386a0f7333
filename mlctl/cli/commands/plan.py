"""`mlctl plan`: what a run would do, and why."""

from mlctl.cli.options import (
    DebugFlag,
    ForceOption,
    JsonFlag,
    OverrideArgument,
    RecipeArgument,
    SetOption,
    StoreOption,
    UntilOption,
)


def plan(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    set_: SetOption = None,
    store: StoreOption = None,
    until: UntilOption = None,
    force: ForceOption = None,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Say for every step whether it would be reused, run or resumed, and why."""
    from mlctl.cli.plan_view import show_plan
    from mlctl.cli.session import Session

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    show_plan(session.plan(session.until(until), force or ()), as_json=json)
    return 0
