"""Who may do what: by tokens, or by none."""

from pathlib import Path

from mlctl.events import Tell, silent
from mlctl.serving.guards.caller import ANONYMOUS, Caller, Guard
from mlctl.serving.http.routing import Scope
from mlctl.serving.refusals import Forbidden


def guard_of(tokens: Path | None, tell: Tell = silent) -> Guard:
    """A guard that knows the tokens of a file, and follows it; one that lets everybody infer where there is no file.

    `tell` hears of a file that is damaged while the server runs. Raises UsageError where the file cannot be read now,
    DataError where it is damaged now.
    """
    if tokens is None:
        return _Unguarded()
    # Random numbers, locks and hashes are of no use to a server that asks for no token.
    from mlctl.serving.guards.token_guard import TokenGuard

    return TokenGuard(tokens, tell)


class _Unguarded:
    """Everybody may infer, nobody may manage."""

    def admit(self, authorization: str | None, scope: Scope, model: str | None) -> Caller:
        """`anonymous`. Raises Forbidden for the admin scope."""
        if scope == "admin":
            raise Forbidden(
                "managing needs a token with the admin scope: make one with "
                "`mlctl token create NAME --tokens FILE --admin`, and start the server with `--tokens FILE`"
            )
        return ANONYMOUS
