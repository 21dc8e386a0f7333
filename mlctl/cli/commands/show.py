"""`mlctl show`: what a recipe says and what it came to."""

from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, JsonFlag, OverrideArgument, RecipeArgument, SetOption, StoreOption


def show(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    set_: SetOption = None,
    store: StoreOption = None,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the recipe with every default.")] = False,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Show where every step's artifact lies and what it measured, or the recipe with every default."""
    from mlctl.cli.plan_view import show_artifacts
    from mlctl.cli.resolved_view import show_resolved
    from mlctl.cli.session import Session

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    if resolved:
        show_resolved(session.recipe, as_json=json)
    else:
        show_artifacts(session.plan(session.until(None)), as_json=json)
    return 0
