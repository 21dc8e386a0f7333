"""Tokens on stdout: a new one's text, this once, and one line for each that is known."""

import json as json_text
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from mlctl.stages.tokens import TokenDescription, TokenWish, make_token, take_back_token

HEADINGS = ("name", "begins with", "may use", "a second", "made", "expires")


def show_new_token(file: Path, wish: TokenWish) -> None:
    """Make a token and print it. One that cannot be printed is taken back, for nobody could ever use it.

    Raises UsageError and DataError, and OSError where stdout takes nothing.
    """
    text = make_token(file, wish)
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BaseException:
        take_back_token(file, wish.name)
        raise


def show_tokens(tokens: Sequence[TokenDescription], *, as_json: bool) -> None:
    """Print what may be shown of them, as a table or as one JSON list."""
    if as_json:
        sys.stdout.write(json_text.dumps([asdict(each) for each in tokens], indent=2) + "\n")
        return
    rows = [HEADINGS, *map(_row, tokens)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    for row in rows:
        line = "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")


def _row(token: TokenDescription) -> tuple[str, ...]:
    reach = "everything" if token.is_admin else ", ".join(token.models) or "all models"
    rate = "any" if token.rate is None else f"{token.rate:g}"
    expires = "never" if token.expires is None else token.expires[:10]
    return (
        token.name,
        f"{token.prefix}…",
        reach,
        rate,
        token.made[:10],
        f"{expires} (it has)" if token.is_expired else expires,
    )
