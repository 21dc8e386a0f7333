"""`mlctl debug`: what goes wrong between two forms of one model."""

from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import AllowCodeFlag, DataOption, DebugFlag, JsonFlag, StoreOption

debug_app = typer.Typer(
    help="Find out what goes wrong between two forms of one model.", no_args_is_help=True, rich_markup_mode=None
)


@debug_app.callback()
def debug_command() -> None:
    """Find out what goes wrong between two forms of one model."""


@debug_app.command("parity")
def parity(
    a: Annotated[Path, typer.Argument(metavar="A", help="A model: an ONNX file, or the folder of a step.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="What was made of it, or another form of it.")],
    data: DataOption = None,
    store: StoreOption = None,
    rows: Annotated[
        int, typer.Option("--rows", min=1, max=4096, metavar="N", help="Rows of the validation split to compare.")
    ] = 8,
    tolerance: Annotated[
        float,
        typer.Option("--tolerance", min=0, metavar="X", help="Largest difference, absolute or relative, that is none."),
    ] = 1e-4,
    all_: Annotated[bool, typer.Option("--all", help="List every tensor that both have.")] = False,
    allow_code: AllowCodeFlag = False,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Name the first tensor in which two forms of one model differ, and its module; exit 21 where there is one."""
    from mlctl.cli.output import Output
    from mlctl.cli.parity_view import Comparison, show_parity
    from mlctl.cli.preparing import prepared_data

    folder = None
    if data:
        output = Output(as_json=json)
        verdict, folder = prepared_data(data, store, output)
        if folder is None:
            return output.finish(verdict)
    return show_parity(Comparison(a, b, folder, rows, tolerance, allow_code), is_complete=all_, as_json=json)
