"""`mlctl show`: what a recipe says and what it came to."""

import json as json_text
import sys
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
    from mlctl.cli.session import Session
    from mlctl.recipe.resolved import resolved as resolved_text

    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    if resolved:
        values = resolved_values(session.recipe)
        text = json_text.dumps(values, indent=2, ensure_ascii=False) + "\n" if json else resolved_text(session.recipe)
        sys.stdout.write(text)
    else:
        show_artifacts(session.plan(session.until(None)), as_json=json)
    return 0
