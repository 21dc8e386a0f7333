"""`mlctl promote`: a label moves to a version."""

import sys
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, JsonFlag
from mlctl.cli.repository_options import PRODUCTION, LabelOption, RepositoryOption


def promote(
    version: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="The version, such as digits@3.")],
    as_: LabelOption = PRODUCTION,
    repository: RepositoryOption = None,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Let a label point to a version, after all of its files were read again."""
    from mlctl.cli.models_view import say_waiting
    from mlctl.cli.repository_options import required
    from mlctl.stages.versions import move_text, promote_version

    moved = promote_version(required(repository), version, as_, say_waiting)
    sys.stdout.write(move_text(moved, as_json=json))
    return 0
