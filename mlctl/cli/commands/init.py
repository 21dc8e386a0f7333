"""`mlctl init`: a first recipe for a data file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import OUTPUT, DebugFlag


def init(
    data: Annotated[
        Path,
        typer.Argument(metavar="DATA", help="A table (CSV, TSV, JSON lines, Parquet), or a folder of class folders."),
    ],
    output: Annotated[Path, OUTPUT] = Path("recipe.yaml"),
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="The column to predict; the last by default.")
    ] = None,
    debug: DebugFlag = False,
) -> int:
    """Look at a data file and write a commented recipe that runs; `--output -` prints it."""
    from mlctl.cli.drafting import check_free, write_recipe
    from mlctl.stages.draft import draft_recipe

    if str(output) == "-":
        sys.stdout.write(draft_recipe(data, target, Path()))
    else:
        check_free(output)
        write_recipe(output, draft_recipe(data, target, output.parent))
        sys.stderr.write(f"{output}: written; `mlctl run {output}` runs it\n")
    return 0
