"""The HTTP client that huggingface-hub is given: as patient as all downloads, so that its own retries never begin."""

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
from huggingface_hub.utils._http import hf_request_event_hook, parse_ratelimit_headers

from mlctl.data.remote_failures import connection_failure
from mlctl.data.remote_http import status_text
from mlctl.data.remote_retrying import TRANSIENT_STATUSES, Attempts, Transient, retry_after
from mlctl.errors import DataError, MachineError


class PatientClient(httpx2.Client):
    """The library's ordinary client, but every answer is waited for, and a body that breaks off is continued."""

    def __init__(self, attempts: Attempts) -> None:
        # As `default_client_factory` of the library does.
        super().__init__(event_hooks={"request": [hf_request_event_hook]}, follow_redirects=True, timeout=None)
        self._attempts = attempts

    def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:
        """The first answer that is no passing failure.

        Raises DataError or MachineError when too many were; reading the body raises them too, or Transient.
        """
        if request.method == "GET":
            # A compressed body could not be continued from where it broke off.
            request.headers["Accept-Encoding"] = "identity"
        response = self._answer(request, options)
        self._attempts.succeeded()
        is_whole = response.status_code == 200 and "Content-Encoding" not in response.headers
        if is_whole and options.get("stream") and isinstance(response.stream, httpx2.SyncByteStream):
            response.stream = ContinuedStream(response.stream, self._rest_of(response), self._attempts)
        return response

    def _answer(self, request: httpx2.Request, options: dict[str, Any]) -> httpx2.Response:
        while True:
            try:
                response = super().send(request, **options)
            except httpx2.TransportError as error:
                failure = transport_failure(error, self._attempts.subject)
            else:
                if response.status_code not in TRANSIENT_STATUSES:
                    return response
                response.close()
                failure = _answered(response)
            self._attempts.failed(failure)

    def _rest_of(self, first: httpx2.Response) -> Callable[[int], httpx2.Response]:
        """What asks for the body of `first` from a byte on; the answer may hold the whole body all the same."""
        etag = first.headers.get("ETag", "")

        def rest(start: int) -> httpx2.Response:
            headers = {**first.request.headers, "Range": f"bytes={start}-"}
            if etag.startswith('"'):
                headers["If-Range"] = etag
            again = self._answer(self.build_request("GET", first.request.url, headers=headers), {"stream": True})
            if again.status_code not in (200, 206) or again.headers.get("ETag", "") != etag:
                again.close()
                raise Transient("the hub does not continue the file")
            return again

        return rest


class ContinuedStream(httpx2.SyncByteStream):
    """A body that goes on where the line was dropped."""

    def __init__(
        self, stream: httpx2.SyncByteStream, rest: Callable[[int], httpx2.Response], attempts: Attempts
    ) -> None:
        self._stream = stream
        self._rest = rest
        self._attempts = attempts

    def __iter__(self) -> Iterator[bytes]:
        came = known = 0
        while True:
            try:
                for chunk in self._stream:
                    new = chunk[known:]
                    known -= len(chunk) - len(new)
                    if new:
                        came += len(new)
                        self._attempts.succeeded()
                        yield new
                return
            except httpx2.TransportError as error:
                self._stream.close()
                self._attempts.failed(transport_failure(error, self._attempts.subject))
            known = self._reopen(came)

    def close(self) -> None:
        """Close the line that is open now."""
        self._stream.close()

    def _reopen(self, came: int) -> int:
        """Open the rest; gives the number of bytes to pass over, all that came where the server sends the whole."""
        response = self._rest(came)
        if not isinstance(response.stream, httpx2.SyncByteStream):
            raise Transient("the hub does not continue the file")
        self._stream = response.stream
        if response.status_code == 200:
            return came
        if not response.headers.get("Content-Range", "").startswith(f"bytes {came}-"):
            response.close()
            raise Transient("the hub does not continue the file")
        return 0


def transport_failure(error: httpx2.TransportError, where: str) -> Transient:
    """What a connection that brought no answer, or not all of it, comes to.

    Raises DataError for a hub that does not exist or cannot prove who it is, MachineError for an address that is none.
    """
    if isinstance(error, httpx2.UnsupportedProtocol):
        raise no_address() from error
    known = connection_failure(error, where)
    if isinstance(known, DataError):
        raise known from error
    if known is not None:
        return known
    if isinstance(error, httpx2.TimeoutException):
        return Transient("the hub is silent")
    if isinstance(error, httpx2.ProxyError):
        return Transient("the proxy of the environment refuses the connection")
    if isinstance(error, httpx2.ConnectError):
        return Transient("the hub cannot be reached")
    return Transient("the line to the hub was dropped")


def no_address() -> MachineError:
    """What is said of a hub at an address that nobody can connect to."""
    next_step = "write it as https://host, or unset it"
    return MachineError("the environment names no address of a hub", where="HF_ENDPOINT", next=next_step)


def _answered(response: httpx2.Response) -> Transient:
    wish = retry_after(response.headers.get("Retry-After"))
    limit = parse_ratelimit_headers(response.headers)
    if wish is None and limit is not None and limit.remaining == 0:
        wish = float(limit.reset_in_seconds)
    return Transient(f"the hub answers {status_text(response.status_code)}", retry_after=wish)
