"""Who may do what, by bearer tokens (RFC 6750)."""

import hmac
import os
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlctl.errors import DataError
from mlctl.events import Note, Tell, Warned, silent
from mlctl.serving.guards.caller import ANONYMOUS, Caller
from mlctl.serving.guards.rates import Bucket
from mlctl.serving.guards.tokens import MOST_BYTES, Token, digest_of, parsed, read_tokens, unix_time
from mlctl.serving.http.routing import Scope
from mlctl.serving.refusals import Forbidden, Refused, TooMany, Unauthorized
from mlctl.units import plural

LOOK_SECONDS: Final = 1.0
"""How long a revoked token may still be taken."""
LONGEST: Final = 512
"""Characters of a header that could hold a token; what is longer is not hashed."""


@dataclass(slots=True)
class _Holder:
    """A token as the guard wants it."""

    caller: Caller
    digest: bytes
    models: frozenset[str]
    """Empty where all may be used."""
    is_admin: bool
    expires: float
    """Unix time; infinity where it never does."""
    bucket: Bucket | None


class TokenGuard:
    """Knows tokens by their hashes. Looks at the file at most once a second, and never forgets the last good one."""

    def __init__(
        self,
        path: Path,
        tell: Tell = silent,
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives seconds that never go back, `now` Unix time. Raises UsageError and DataError."""
        self._path = path
        self._tell = tell
        self._clock = clock
        self._now = now
        self._holders: dict[bytes, _Holder] = {}
        self._looked = clock()
        self._stamp: object = None
        self._tokens = read_tokens(path)
        self._take_in(self._tokens)
        if path.stat().st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            tell(Warned(f"{path}: others than its owner may write it, and so make tokens for themselves"))

    def admit(self, authorization: str | None, scope: Scope, model: str | None) -> Caller:
        """Whose token it is. Routes that are open ask for none.

        A token that is for some models does not reach routes that name no model, since they could reach any.
        Raises Unauthorized, Forbidden, TooMany.
        """
        clock = self._clock()
        if clock - self._looked >= LOOK_SECONDS:
            self._looked = clock
            self._look()
        if scope == "open":
            return ANONYMOUS
        holder = self._holder(authorization)
        if not holder.is_admin and (scope == "admin" or (holder.models and model not in holder.models)):
            raise _named(Forbidden(_beyond(holder, scope, model)), holder)
        if holder.bucket is not None and (wait := holder.bucket.take(clock)):
            what = f"the token {holder.caller.name!r} may send {holder.bucket.rate:g} requests a second"
            raise _named(TooMany(what, retry_after=wait), holder)
        return holder.caller

    def _holder(self, authorization: str | None) -> _Holder:
        """Whose header it is. Raises Unauthorized."""
        if not authorization:
            raise Unauthorized("this needs a token; send it as `Authorization: Bearer TOKEN`")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or len(authorization) > LONGEST or not authorization.isascii():
            raise Unauthorized("the header Authorization does not read `Bearer TOKEN`")
        digest = digest_of(token.strip())
        # What the time of this look-up may tell is how a hash begins that is like the hash of what was sent. Nobody can
        # choose a text by its hash, so nobody comes nearer to a token by it; the whole is compared in constant time.
        holder = self._holders.get(digest)
        if holder is None or not hmac.compare_digest(holder.digest, digest):
            raise Unauthorized("this token is not known here")
        if self._now() >= holder.expires:
            raise Unauthorized(f"the token {holder.caller.name!r} has expired")
        return holder

    def _look(self) -> None:
        """Read the file again if it has changed; what cannot be read changes nothing, and is told once."""
        try:
            stamp: object = _stamp(os.stat(self._path))  # noqa: PTH116 -- a third of the time of Path.stat
        except OSError as error:
            stamp = error.errno
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            with self._path.open("rb") as stream:
                # Of the file that is read, so that what takes its place meanwhile is seen at the next look.
                self._stamp = _stamp(os.fstat(stream.fileno()))
                tokens = parsed(stream.read(MOST_BYTES + 1), self._path)
        except (OSError, DataError) as error:
            why = error.what if isinstance(error, DataError) else error.strerror
            self._tell(Warned(f"{self._path}: the tokens that were known stay: {why}"))
            return
        if tokens != self._tokens:
            self._tokens = tokens
            self._take_in(tokens)
            self._tell(Note(f"{self._path}: {plural(len(tokens), 'token')} now"))

    def _take_in(self, tokens: tuple[Token, ...]) -> None:
        holders = {}
        for each in tokens:
            digest = bytes.fromhex(each.sha256)
            holders[digest] = _Holder(
                Caller(each.name),
                digest,
                frozenset(each.models),
                each.is_admin,
                unix_time(each.expires) if each.expires is not None else float("inf"),
                self._bucket(digest, each.rate),
            )
        self._holders = holders

    def _bucket(self, digest: bytes, rate: float | None) -> Bucket | None:
        """The one that the token has already, so that a file that changes gives nobody a new one."""
        if rate is None:
            return None
        known = self._holders.get(digest)
        if known and known.bucket and known.bucket.rate == rate:
            return known.bucket
        return Bucket.full(rate, self._clock())


def _beyond(holder: _Holder, scope: Scope, model: str | None) -> str:
    name = holder.caller.name
    if scope == "admin":
        return f"the token {name!r} may not manage: `mlctl token create NAME --tokens FILE --admin` makes one that may"
    what = f"the model {model!r}" if model is not None else "what names no model"
    return f"the token {name!r} does not reach {what}; it is for {', '.join(sorted(holder.models))}"


def _named(refused: Refused, holder: _Holder) -> Refused:
    refused.caller = holder.caller.name
    return refused


def _stamp(found: os.stat_result) -> tuple[int, int, int, int]:
    """What changes with the file, or with who may read it."""
    return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
