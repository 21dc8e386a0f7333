"""Why a connection failed, as far as the operating system and TLS know."""

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import Final
from urllib.error import URLError

from mlctl.data.remote_retrying import Transient
from mlctl.errors import DataError

_NO_NETWORK: Final = frozenset({errno.ENETUNREACH, errno.ENETDOWN})


def connection_failure(error: BaseException, where: str) -> Transient | DataError | None:
    """What lies at the bottom of `error`, whatever library raised it; None where that is nothing known here.

    DataError for a host that does not exist or cannot prove who it is, Transient for a machine without a network.
    """
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            what = f"the server cannot prove who it is ({cause.verify_message})"
            return DataError(what, where=where, next="check the address, and that this machine knows its authority")
        if isinstance(cause, socket.gaierror) and cause.errno != socket.EAI_AGAIN:
            next_step = "mend the address, or the proxy settings (https_proxy, no_proxy)"
            return DataError("there is no such host", where=where, next=next_step)
        if isinstance(cause, socket.gaierror) or (isinstance(cause, OSError) and cause.errno in _NO_NETWORK):
            return Transient("this machine reaches no network", is_own_network=True)
    return None


def plain(reason: object) -> str:
    """Somebody else's reason on one line, without anything that a terminal would act on."""
    return "".join(letter if letter.isprintable() else " " for letter in str(reason))[:200]


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it came from, one after the other."""
    while error is not None:
        yield error
        reason = error.reason if isinstance(error, URLError) else None
        error = reason if isinstance(reason, BaseException) else error.__cause__ or error.__context__
