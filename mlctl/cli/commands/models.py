"""`mlctl models`: what a repository holds."""

from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, JsonFlag
from mlctl.cli.repository_options import VARIABLE


def models(
    repository: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", envvar=VARIABLE, help="The folder of models.", show_default=False),
    ] = None,
    model: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model, with its history.")] = None,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """List a repository's models: versions, labels, from what they were made, and why one was refused."""
    from mlctl.cli.models_view import print_models, show_models
    from mlctl.cli.repository_options import required
    from mlctl.stages.versions import listings

    found = listings(required(repository, "mlctl models FOLDER"), model)
    if json:
        print_models(found)
    else:
        show_models(found, with_history=model is not None)
    return 0
