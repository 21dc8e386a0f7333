"""What a refusal is called in gRPC."""

from typing import Final

import grpc

from mlctl.serving.refusals import Refused

_LONGEST_DETAILS: Final = 1024
"""Characters. They travel as metadata, of which clients take 8 KiB in all."""

_CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    406: grpc.StatusCode.INVALID_ARGUMENT,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    431: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""By the status of HTTP."""


def code(refused: Refused) -> grpc.StatusCode:
    """The status of a call that was refused."""
    return _CODES[refused.status]


def details(refused: Refused) -> str:
    """Why, cut to a length that metadata can hold."""
    return refused.what if len(refused.what) <= _LONGEST_DETAILS else refused.what[: _LONGEST_DETAILS - 1] + "…"


def trailing(refused: Refused) -> tuple[tuple[str, str], ...]:
    """When to try again: in seconds as HTTP says it, and in milliseconds as the retries of gRPC's clients read it."""
    if refused.retry_after is None:
        return ()
    milliseconds = max(0, round(refused.retry_after * 1000))
    return (("retry-after", str(-(-milliseconds // 1000))), ("grpc-retry-pushback-ms", str(milliseconds)))
