"""`mlctl init`: a first recipe for a data file."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag
from mlctl.errors import UsageError


def init(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="A CSV or TSV file, or a folder of class folders.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where the recipe goes; - prints it.")
    ] = Path("recipe.yaml"),
    target: Annotated[
        str | None, typer.Option("--target", metavar="COLUMN", help="The column to predict; the last by default.")
    ] = None,
    debug: DebugFlag = False,
) -> int:
    """Look at a data file and write a commented recipe that runs."""
    from mlctl.stages.draft import draft_recipe

    is_printed = str(output) == "-"
    if not is_printed and output.exists():
        raise UsageError("the file is already there", where=output, next="name another one with `--output FILE`")
    text = draft_recipe(data, target, Path() if is_printed else output.parent)
    if is_printed:
        sys.stdout.write(text)
    else:
        output.write_text(text)
        sys.stderr.write(f"{output}: written; `mlctl run {output}` runs it\n")
    return 0
