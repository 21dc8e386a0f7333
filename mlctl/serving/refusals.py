"""Every way in which the server refuses a request, with what each protocol needs to say so. All of them are Refused.

Refused (an Exception)        status  reason
├── Malformed                 400     malformed
├── Unauthorized              401     unauthorized
├── Forbidden                 403     forbidden
├── Unknown                   404     unknown
├── MethodRefused             405     method
├── Unacceptable              406     unacceptable
├── Slow                      408     slow
├── Conflicting               409     conflict
├── TooLarge                  413     too-large
├── WrongMedia                415     media
├── TooMany                   429     rate
├── HeadersTooLarge           431     headers
├── Broken                    500     failed
├── NotReady                  503     not-ready
├── Busy                      503     busy
└── Late                      504     late
"""

from typing import ClassVar


class Refused(Exception):
    """A request that is not answered: the text says why, for whoever sent it; nothing of the server's own inside."""

    status: ClassVar[int]
    """Of HTTP."""
    reason: ClassVar[str]
    """A short word for logs and metrics."""

    def __init__(self, what: str, *, retry_after: float | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.retry_after = retry_after
        """Seconds after which it may be worth another try; None where it never will."""
        self.caller: str | None = None
        """Whose token it was, where the guard knew it and refused; for the audit."""


class Malformed(Refused):
    """What was sent is not what the protocol, or the model, takes."""

    status, reason = 400, "malformed"


class Unauthorized(Refused):
    """No token was given, or none that is known."""

    status, reason = 401, "unauthorized"


class Forbidden(Refused):
    """The token does not reach this far."""

    status, reason = 403, "forbidden"


class Unknown(Refused):
    """There is no such route, model, version or label."""

    status, reason = 404, "unknown"


class MethodRefused(Refused):
    """The route is there, and takes another method."""

    status, reason = 405, "method"

    def __init__(self, what: str, *, allowed: tuple[str, ...]) -> None:
        super().__init__(what)
        self.allowed = allowed


class Unacceptable(Refused):
    """The caller takes no form of answer that there is."""

    status, reason = 406, "unacceptable"


class Slow(Refused):
    """The request did not arrive in time."""

    status, reason = 408, "slow"


class Conflicting(Refused):
    """What is asked for does not fit the state that the model is in."""

    status, reason = 409, "conflict"


class TooLarge(Refused):
    """The request is larger than the server takes."""

    status, reason = 413, "too-large"


class WrongMedia(Refused):
    """The body is of a kind that the route, or the model, does not take."""

    status, reason = 415, "media"


class TooMany(Refused):
    """The token's rate is used up."""

    status, reason = 429, "rate"


class HeadersTooLarge(Refused):
    """The request line and the headers are longer, or more, than the server takes."""

    status, reason = 431, "headers"


class Broken(Refused):
    """The model could not compute an answer to what was a proper request."""

    status, reason = 500, "failed"


class NotReady(Refused):
    """The model, or the server, does not take requests now."""

    status, reason = 503, "not-ready"


class Busy(Refused):
    """The queue is full."""

    status, reason = 503, "busy"


class Late(Refused):
    """The request's time was over before its answer was computed."""

    status, reason = 504, "late"
