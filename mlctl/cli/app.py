"""The commands, in the order in which `mlctl --help` shows them."""

from collections.abc import Callable, Sequence
from copy import copy
from typing import Annotated, Final

import typer

from mlctl import __version__
from mlctl.cli.commands import (
    bench,
    compare,
    debug,
    doctor,
    gc,
    generate,
    init,
    inspect,
    models,
    plan,
    promote,
    prune,
    publish,
    rollback,
    run,
    schema,
    serve,
    show,
    token,
    train,
    verify,
)
from mlctl.cli.commands.model_stage import model_stage_command
from mlctl.cli.commands.stage import PURPOSES, TAKES_FILES, stage_command

app = typer.Typer(
    name="mlctl",
    help="One recipe, one command line, for the whole life of a model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


OWN: Final[dict[str, Callable[..., int]]] = {
    "train": train.train,
    "prune": prune.prune,
    "serve": serve.serve,
    **{stage: model_stage_command(stage) for stage in TAKES_FILES},
}
"""Stages whose command has options of its own."""


@app.callback()
def mlctl(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """One recipe, one command line, for the whole life of a model."""
    if version:
        typer.echo(f"mlctl {__version__}")
        raise typer.Exit


app.command("run")(run.run)
for stage, purpose in PURPOSES.items():
    app.command(stage, help=purpose)(OWN.get(stage) or stage_command(stage))
app.command("plan")(plan.plan)
app.command("show")(show.show)
app.command("init")(init.init)
app.command("schema")(schema.schema)
app.command("verify")(verify.verify)
app.command("gc")(gc.gc)
app.command("doctor")(doctor.doctor)
app.command("inspect")(inspect.inspect)
app.command("bench")(bench.bench)
app.command("compare")(compare.compare)
app.command("generate")(generate.generate)
app.command("publish")(publish.publish)
app.command("models")(models.models)
app.command("promote")(promote.promote)
app.command("rollback")(rollback.rollback)
app.add_typer(token.token_app, name="token")
app.add_typer(debug.debug_app, name="debug")


def app_for(arguments: Sequence[str]) -> typer.Typer:
    """The command that the arguments begin with, on its own; all of them where they begin with none.

    Typer reads the signature of every command before it runs one: 20 ms for those that are not run.
    """
    name = arguments[0] if arguments else ""
    commands = [each for each in app.registered_commands if each.name == name]
    groups = [each for each in app.registered_groups if each.name == name]
    if not commands and not groups:
        return app
    alone = copy(app)
    alone.registered_commands, alone.registered_groups = commands, groups
    return alone
