"""The tokens of a server, for whoever keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class TokenDescription:
    """What may be shown of a token. Times are in UTC, as ISO 8601 has them."""

    name: str
    prefix: str
    """How its text begins."""
    models: tuple[str, ...]
    """Empty where it reaches all."""
    is_admin: bool
    rate: float | None
    """Requests per second; None where they are not counted."""
    made: str
    expires: str | None
    is_expired: bool


@dataclass(frozen=True)
class TokenWish:
    """What a new token is to be good for."""

    name: str
    models: Sequence[str] = ()
    is_admin: bool = False
    rate: float | None = None
    days: int | None = None
    """After which it expires; None where it never does."""


def make_token(file: Path, wish: TokenWish) -> str:
    """A new token's text, which is nowhere kept. Raises UsageError and DataError."""
    from mlctl.serving.guards.tokens import Scopes, create_token

    scopes = Scopes(tuple(dict.fromkeys(wish.models)), wish.is_admin, wish.rate)
    return create_token(file, wish.name, scopes, wish.days)


def take_back_token(file: Path, name: str) -> None:
    """Let a token be worth nothing. Raises UsageError where there is none of that name, DataError."""
    from mlctl.serving.guards.tokens import revoke_token

    revoke_token(file, name)


def known_tokens(file: Path) -> tuple[TokenDescription, ...]:
    """Every token of the file, in the order of making. Raises UsageError and DataError."""
    import time

    from mlctl.serving.guards.tokens import read_tokens, unix_time

    now = time.time()
    return tuple(
        TokenDescription(
            each.name,
            each.prefix,
            each.models,
            each.is_admin,
            each.rate,
            each.made,
            each.expires,
            each.expires is not None and unix_time(each.expires) <= now,
        )
        for each in read_tokens(file)
    )
