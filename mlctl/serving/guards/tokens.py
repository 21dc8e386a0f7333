"""Tokens, and the file that knows them by their hashes.

The file is JSON and holds, for each token, the SHA-256 of its text, never the text. A slow hash is not needed: it
protects passwords, which can be guessed; a token is 256 random bits, and whoever could find it from its SHA-256 could
find anything.
"""

import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, Final

from mlctl.engine.failures import system_refusals
from mlctl.engine.locks import exclusive
from mlctl.errors import DataError, UsageError

MARK: Final = "mlctl_"
"""What every token begins with, so that scanners for leaked secrets can know it."""
BYTES: Final = 32
SHOWN: Final = len(MARK) + 6
"""Characters by which a list tells tokens apart; 220 random bits stay hidden."""
MOST_BYTES: Final = 16 * 2**20
"""Of a file of tokens: some 60,000 of them."""
FORM: Final = 1
"""Of the file."""

_WHEN_FULL: Final = "make room on the disk of this file, and run the same command again"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Scopes:
    """What a token is good for. An admin token may do everything; `models` is empty where all may be used."""

    models: tuple[str, ...] = ()
    is_admin: bool = False
    rate: float | None = None
    """Requests per second; None where they are not counted."""


@dataclass(frozen=True)
class Token:
    """What the file knows of one token. Times are in UTC, as ISO 8601 has them."""

    name: str
    prefix: str
    """The first characters of its text."""
    sha256: str
    models: tuple[str, ...]
    is_admin: bool
    rate: float | None
    made: str
    expires: str | None


def digest_of(token: str) -> bytes:
    """The 32 bytes by which a token is known. Raises UnicodeEncodeError for half of a surrogate pair."""
    return sha256(token.encode()).digest()


def create_token(path: Path, name: str, scopes: Scopes, days: int | None = None) -> str:
    """Make a token, note its hash in the file, which is made where there is none, and give the token's text.

    Two processes may do so at once. Raises UsageError for a name that is taken or not a name, and for scopes that
    cannot be; DataError for a damaged file.
    """
    _require_possible(name, scopes)
    text = MARK + secrets.token_urlsafe(BYTES)
    now = datetime.now(UTC).replace(microsecond=0)
    expires = (now + timedelta(days=days)).isoformat() if days else None
    token = Token(
        name, text[:SHOWN], digest_of(text).hex(), scopes.models, scopes.is_admin, scopes.rate, now.isoformat(), expires
    )
    with _held(path) as target:
        known = read_tokens(target) if target.exists() else ()
        if any(each.name == name for each in known):
            raise UsageError(
                f"there is a token of the name {name!r}",
                where=path,
                next=f"take another name, or take that one back with `mlctl token revoke {name}`",
            )
        _write(target, (*known, token))
    return text


def revoke_token(path: Path, name: str) -> None:
    """Take a token out. Raises UsageError where there is none of that name, DataError for a damaged file."""
    with _held(path, must_be_there=True) as target:
        known = read_tokens(target)
        kept = tuple(each for each in known if each.name != name)
        if kept == known:
            raise UsageError(
                f"there is no token of the name {name!r}",
                where=path,
                next=f"`mlctl token list --tokens {path}` shows those that there are",
            )
        _write(target, kept)


def read_tokens(path: Path) -> tuple[Token, ...]:
    """What the file holds, in the order of making.

    Raises UsageError where it cannot be read, DataError for what is not a whole file of tokens.
    """
    try:
        with path.open("rb") as stream:
            return parsed(stream.read(MOST_BYTES + 1), path)
    except OSError as error:
        raise UsageError(
            f"the file of tokens cannot be read ({error.strerror})",
            where=path,
            next=f"`mlctl token create NAME --tokens {path}` makes one",
        ) from error


def parsed(content: bytes, path: Path) -> tuple[Token, ...]:
    """The tokens in the bytes of such a file, which lies at `path`. Raises DataError for what is none."""
    if len(content) > MOST_BYTES:
        raise _damaged(path, f"it is larger than {MOST_BYTES:,} bytes")
    try:
        document = json.loads(content)
        if not isinstance(document, dict) or document.get("mlctl") != FORM:
            raise ValueError('it does not begin with {"mlctl": 1}')
        found = tuple(_token(each) for each in _list(document.get("tokens"), "tokens"))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if len({each.name for each in found}) < len(found):
        raise _damaged(path, "two tokens have one name")
    return found


def _damaged(path: Path, why: str) -> DataError:
    return DataError(
        f"this is no file of tokens: {why}",
        where=path,
        next="bring back a copy of it, or take the file away and make the tokens anew",
    )


def _token(value: Any) -> Token:
    """One token of the file. Raises ValueError."""
    names = {field.name for field in fields(Token)}
    if not isinstance(value, dict) or set(value) != names:
        raise ValueError(f"a token has {', '.join(sorted(names))}, and nothing else")
    name, models, rate, expires = value["name"], _list(value["models"], "models"), value["rate"], value["expires"]
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError("a token's name is not one")
    is_rate = rate is None or (isinstance(rate, int | float) and not isinstance(rate, bool))
    if not (is_rate and (rate is None or (isfinite(rate) and rate > 0))):
        raise ValueError(f"the rate of {name} is no number above 0")
    texts = (value["prefix"], value["sha256"], *models)
    if not all(isinstance(each, str) for each in texts) or not isinstance(value["is_admin"], bool):
        raise ValueError(f"a value of {name} is of another type")
    if not _DIGEST.fullmatch(value["sha256"]):
        raise ValueError(f"the hash of {name} is none")
    for time in (value["made"], *((expires,) if expires is not None else ())):
        unix_time(time)
    return Token(**{**value, "models": tuple(models)})


def _list(value: Any, what: str) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{what} is no list")
    return value


def unix_time(text: Any) -> float:
    """Seconds since 1970 of a time in the file. Raises ValueError for what is none, or names no zone."""
    moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    if moment is None or moment.tzinfo is None:
        raise ValueError(f"{text!r} is no time")
    return moment.timestamp()


def _require_possible(name: str, scopes: Scopes) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is no name for a token",
            next="take up to 64 letters, digits and . _ @ -, a letter or digit first",
        )
    for model in scopes.models:
        if not model or not model.isprintable() or "/" in model:
            raise UsageError(f"{model!r} is no name of a model", next="name a model as its folder is named")
    if scopes.is_admin and scopes.models:
        raise UsageError(
            "an admin token reaches every model", next="leave out `--model`, or make two tokens and leave out `--admin`"
        )
    if scopes.rate is not None and not (isfinite(scopes.rate) and scopes.rate > 0):
        raise UsageError(f"a rate of {scopes.rate} serves nobody", next="give `--rate` a number above 0")


@contextmanager
def _held(path: Path, *, must_be_there: bool = False) -> Iterator[Path]:
    """Hold the lock beside the file, and give where the file itself lies; what the system refuses is a MlctlError."""
    try:
        target = path.resolve()
    except RuntimeError as error:
        raise UsageError("this is a link that leads to itself", where=path, next="name another file") from error
    if must_be_there or target.exists():
        # Before the lock: none is left beside what is no file of tokens.
        read_tokens(path)
    if not target.parent.is_dir():
        raise UsageError("there is no such folder", where=target.parent, next="make it, or name another file")
    with system_refusals(target, when_full=_WHEN_FULL), exclusive(target.with_name(f"{target.name}.lock")):
        yield target


def _write(path: Path, tokens: Sequence[Token]) -> None:
    """Put the file in place whole, for its owner's eyes alone."""
    text = json.dumps({"mlctl": FORM, "tokens": [asdict(each) for each in tokens]}, indent=2) + "\n"
    aside = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with suppress(FileNotFoundError):
            aside.unlink()
        # A new file from the start, so that it is at no time open to others.
        with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
