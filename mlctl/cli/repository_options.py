"""The options that commands about a repository of models share."""

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

from mlctl.errors import UsageError

PRODUCTION: Final = "production"
VARIABLE: Final = "MLCTL_REPOSITORY"

RepositoryOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--repository", envvar=VARIABLE, metavar="FOLDER", help="Where models lie.", show_default=False),
]
ToOption: TypeAlias = Annotated[
    Path | None,
    typer.Option("--to", envvar=VARIABLE, metavar="FOLDER", help="The repository of models.", show_default=False),
]
LabelOption: TypeAlias = Annotated[
    str, typer.Option("--as", metavar="LABEL", help="The label that moves; whoever names no version gets production.")
]


def required(repository: Path | None, option: str = "--repository") -> Path:
    """The repository, if one was named. Raises UsageError."""
    if repository is None:
        raise UsageError("no repository of models is named", next=f"name its folder with `{option}` or {VARIABLE}")
    return repository
