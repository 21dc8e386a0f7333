"""`mlctl token`: who may use a server, and for what."""

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from mlctl.cli.options import DebugFlag, JsonFlag

NameArgument: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="Whom the token is for.")]
TokensOption: TypeAlias = Annotated[
    Path, typer.Option("--tokens", envvar="MLCTL_TOKENS", metavar="FILE", help="The file that knows all tokens.")
]
ModelOption: TypeAlias = Annotated[
    list[str] | None, typer.Option("--model", metavar="M", help="A model that it may use; all by default.")
]
AdminFlag: TypeAlias = Annotated[
    bool, typer.Option("--admin", help="It may do everything, loading and unloading of models too.")
]
RateOption: TypeAlias = Annotated[
    float | None, typer.Option("--rate", metavar="X", help="Requests per second that it may send; any number if none.")
]
ExpiresOption: TypeAlias = Annotated[
    int | None,
    typer.Option("--expires", min=1, max=36_500, metavar="DAYS", help="Days after which it expires; never if none."),
]

token_app = typer.Typer(help="Say who may use a server, and for what.", no_args_is_help=True, rich_markup_mode=None)


@token_app.callback()
def token_command() -> None:
    """Say who may use a server, and for what."""


@token_app.command("create")
def create(
    name: NameArgument,
    tokens: TokensOption,
    model: ModelOption = None,
    admin: AdminFlag = False,
    rate: RateOption = None,
    expires: ExpiresOption = None,
    debug: DebugFlag = False,
) -> int:
    """Make a token and print it, this once; the file keeps its hash alone."""
    from mlctl.cli.token_view import show_new_token
    from mlctl.stages.tokens import TokenWish

    show_new_token(tokens, TokenWish(name, tuple(model or ()), admin, rate, expires))
    return 0


@token_app.command("list")
def list_(tokens: TokensOption, json: JsonFlag = False, debug: DebugFlag = False) -> int:
    """Show every token: whose it is, how it begins, and what it may do."""
    from mlctl.cli.token_view import show_tokens
    from mlctl.stages.tokens import known_tokens

    show_tokens(known_tokens(tokens), as_json=json)
    return 0


@token_app.command("revoke")
def revoke(name: NameArgument, tokens: TokensOption, debug: DebugFlag = False) -> int:
    """Take a token back; a server that runs refuses it within a second."""
    from mlctl.stages.tokens import take_back_token

    take_back_token(tokens, name)
    return 0
