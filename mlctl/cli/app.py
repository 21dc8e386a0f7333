"""The commands, in the order in which `mlctl --help` shows them."""

from typing import Annotated

import typer

from mlctl import __version__
from mlctl.cli.commands import bench, debug, doctor, gc, init, inspect, plan, run, schema, show, verify
from mlctl.cli.commands.model_stage import model_stage_command
from mlctl.cli.commands.stage import BUILT, NOT_BUILT, TAKES_FILES, stage_command

app = typer.Typer(
    name="mlctl",
    help="One recipe, one command line, for the whole life of a model.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def mlctl(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """One recipe, one command line, for the whole life of a model."""
    if version:
        typer.echo(f"mlctl {__version__}")
        raise typer.Exit


app.command("run")(run.run)
for stage, purpose in {**BUILT, **NOT_BUILT}.items():
    command = model_stage_command(stage) if stage in TAKES_FILES else stage_command(stage)
    app.command(stage, help=purpose)(command)
app.command("plan")(plan.plan)
app.command("show")(show.show)
app.command("init")(init.init)
app.command("schema")(schema.schema)
app.command("verify")(verify.verify)
app.command("gc")(gc.gc)
app.command("doctor")(doctor.doctor)
app.command("inspect")(inspect.inspect)
app.command("bench")(bench.bench)
app.add_typer(debug.debug_app, name="debug")
