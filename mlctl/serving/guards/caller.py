"""Who sent a request, and who may."""

from dataclasses import dataclass
from typing import Protocol

from mlctl.serving.http.routing import Scope


@dataclass(frozen=True)
class Caller:
    """Whoever a token was made for; `anonymous` where the server asks for none."""

    name: str


ANONYMOUS = Caller("anonymous")


class Guard(Protocol):
    """Decides who may do what."""

    def admit(self, authorization: str | None, scope: Scope, model: str | None) -> Caller:
        """Who it is that sends this value of the header `Authorization`, if he may do what the scope says.

        `model` is the one that the route names. Raises Unauthorized, Forbidden, TooMany.
        """
