"""One HTTP answer at a time, read in chunks: what it refuses, and what may be tried again."""

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http import HTTPStatus
from http.client import HTTPException, HTTPResponse
from typing import Final
from urllib.request import Request

from mlctl.data.remote_address import Address
from mlctl.data.remote_opener import AGENT, no_answer, opener
from mlctl.data.remote_retrying import TRANSIENT_STATUSES, Transient, retry_after
from mlctl.errors import DataError
from mlctl.units import size_text

CHUNK_BYTES: Final = 1 << 20
MOST_REDIRECTS: Final = 5
REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TAKEN: Final = frozenset({200, 206, 416})


@contextmanager
def answer(address: Address, headers: Mapping[str, str], silence: float) -> Iterator[HTTPResponse]:
    """The answer to a GET, with status 200, 206 or 416 and its body unread; `silence` is in seconds.

    Proxies are taken from the environment, except for addresses of this machine. Redirects are followed five times.
    Raises Transient for what may go away by itself, DataError for what the server refuses or cannot show to be itself,
    MachineError for a proxy that is none for HTTP.
    """
    url = address.url
    for _ in range(MOST_REDIRECTS + 1):
        with closing(_send(address, url, headers, silence)) as response:
            location = response.headers.get("Location")
            if response.status in REDIRECTS and location:
                url = address.redirected(url, location)
                continue
            _check_status(response, address)
            yield response
            return
    raise DataError(
        f"the server redirects more than {MOST_REDIRECTS} times",
        where=address.shown,
        next="name the file's own address",
    )


def body(response: HTTPResponse) -> Iterator[bytes]:
    """The body as it comes, at most 1 MiB at a time. Raises Transient where it ends before its announced length."""
    announced, came = response.length, 0
    while announced is None or came < announced:
        try:
            chunk = response.read1(CHUNK_BYTES)
        except (OSError, HTTPException) as error:
            raise _dropped(came, announced) from error
        if not chunk:
            break
        came += len(chunk)
        yield chunk
    if announced is not None and came < announced:
        raise _dropped(came, announced)


def status_text(status: int) -> str:
    """`404 Not Found`, in the words of the standard rather than the server's own."""
    try:
        return f"{status} {HTTPStatus(status).phrase}"
    except ValueError:
        return str(status)


def _send(address: Address, url: str, headers: Mapping[str, str], silence: float) -> HTTPResponse:
    request = Request(url, headers={**AGENT, **headers})
    try:
        response = opener(url, is_loopback=address.is_loopback).open(request, timeout=silence)
    except (OSError, HTTPException) as error:
        raise no_answer(error, address.shown, silence) from error
    assert isinstance(response, HTTPResponse)
    return response


def _check_status(response: HTTPResponse, address: Address) -> None:
    status = response.status
    if status in _TAKEN:
        return
    said = f"the server answers {status_text(status)}"
    if status in TRANSIENT_STATUSES:
        raise Transient(said, retry_after=retry_after(response.headers.get("Retry-After")))
    next_step = {
        401: "download the file yourself and name its path; mlctl sends no passwords",
        403: "download the file yourself and name its path; mlctl sends no passwords",
        407: "check the proxy settings (https_proxy, no_proxy)",
    }.get(status, "mend the address")
    raise DataError(said, where=address.shown, next=next_step)


def _dropped(came: int, announced: int | None) -> Transient:
    whole = "" if announced is None else f" of {size_text(announced)}"
    return Transient(f"the line was dropped after {size_text(came)}{whole}")
