"""`mlctl publish`: a model that has passed its gates becomes a version in a repository."""

from typing import Annotated

import typer

from mlctl.cli.options import (
    AllowCodeFlag,
    DebugFlag,
    DeviceOption,
    ForceOption,
    JsonFlag,
    JunitOption,
    OverrideArgument,
    QuietFlag,
    RecipeArgument,
    SetOption,
    StoreOption,
    ThreadsOption,
)
from mlctl.cli.repository_options import ToOption


def publish(
    recipe: RecipeArgument,
    overrides: OverrideArgument = None,
    to: ToOption = None,
    as_: Annotated[
        list[str] | None, typer.Option("--as", metavar="LABEL", help="A label that the version gets, as production.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="The model's name; the recipe's by default.")
    ] = None,
    step: Annotated[
        str | None,
        typer.Option("--step", metavar="STEP", help="The step whose graph it is; by default the served one."),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Make a new version even of an artifact that was published already.")
    ] = False,
    set_: SetOption = None,
    store: StoreOption = None,
    force: ForceOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    junit: JunitOption = None,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Publish a model as the next version of a repository, if its gates pass; what it needs is made first."""
    from mlctl.cli.output import Output
    from mlctl.cli.publish_view import require_recipe, run_publish
    from mlctl.cli.repository_options import required
    from mlctl.cli.session import Session, run_options
    from mlctl.stages.publishing import publication

    require_recipe(recipe)
    session = Session(recipe, (*(overrides or ()), *(set_ or ())), store)
    wanted = publication(
        session.recipe, session.life, required(to, "--to"), step=step, name=name, labels=as_ or (), is_again=again
    )
    options = run_options(device, threads, keep_going=False, allow_code=allow_code)
    output = Output(as_json=json, is_quiet=quiet, junit=junit)
    return run_publish(session, wanted, force or (), options, output)
