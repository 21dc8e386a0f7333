"""`mlctl rollback`: a label goes back."""

import sys
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, JsonFlag
from mlctl.cli.repository_options import PRODUCTION, LabelOption, RepositoryOption


def rollback(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model.")],
    as_: LabelOption = PRODUCTION,
    repository: RepositoryOption = None,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Let a label point to where it did before; again, and it goes back further."""
    from mlctl.cli.models_view import say_waiting
    from mlctl.cli.repository_options import required
    from mlctl.stages.versions import move_text, roll_back_label

    moved = roll_back_label(required(repository), name, as_, say_waiting)
    sys.stdout.write(move_text(moved, as_json=json))
    return 0
