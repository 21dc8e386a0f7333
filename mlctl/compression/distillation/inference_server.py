"""One exchange at a time with a server of models, over HTTP: what it refuses, and what is tried again."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from typing import Any, Final
from urllib.request import Request

from mlctl.data.remote_failures import plain
from mlctl.data.remote_http import status_text
from mlctl.data.remote_opener import AGENT, no_answer, opener
from mlctl.data.remote_retrying import TRANSIENT_STATUSES, Patience, Transient, retry_after
from mlctl.errors import DataError, MachineError
from mlctl.events import Note, Tell
from mlctl.runtime.served_address import FORM, ServedAddress
from mlctl.units import duration_text, plural, size_text

PATIENT: Final = Patience(silence=120.0)
"""A large model may think about a batch for a while."""
MOST_BYTES: Final = 1 << 30
"""Of one answer; no batch that is asked for has a longer one."""
_TOO_LARGE: Final = frozenset({400, 413, 422})
"""How servers refuse a batch that is larger than they take."""


class TooLarge(Exception):
    """The server refuses what it was sent, maybe for its size; the text is its reason."""


@dataclass(frozen=True)
class Answered:
    """An answer of status 200; header names are in lower case."""

    headers: Mapping[str, str]
    body: bytes


class InferenceServer:
    """A server, and how long it is waited for.

    Proxies are taken from the environment, except for servers on this machine; redirects are not followed.
    """

    def __init__(self, address: ServedAddress, tell: Tell, patience: Patience) -> None:
        self.address = address
        self._tell = tell
        self._patience = patience
        self._opener = opener(address.url, is_loopback=address.is_loopback)

    def said(self, url: str) -> dict[str, Any]:
        """The JSON object at `url`. Raises what `ask` raises, and DataError for anything else."""
        try:
            answered = self.ask(url, None, {})
        except TooLarge as refusal:
            raise DataError(str(refusal), where=url, next=f"write the address as {FORM}") from refusal
        try:
            found = json.loads(answered.body)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise self.unusable("what it says of itself is no JSON object")
        return found

    def ask(self, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answered:
        """One answer of status 200, to a POST where there is a body, else to a GET.

        What may go away by itself is tried again, with pauses between. Raises MachineError where it does not go away,
        TooLarge for a batch that is refused, DataError for any other refusal.
        """
        failures = 0
        while True:
            try:
                return self._answered(Request(url, body, headers={**AGENT, **headers}))
            except Transient as failure:
                failures += 1
                self._wait(failure, failures)

    def unusable(self, what: str) -> DataError:
        """What is raised for an answer that is not of the protocol."""
        return DataError(
            f"the server does not speak the Open Inference Protocol v2 as it should: {plain(what)}",
            where=self.address.url,
            next=f"write the address as {FORM}, or look at the server",
        )

    def _wait(self, failure: Transient, failures: int) -> None:
        if failures >= self._patience.attempts:
            raise MachineError(
                f"{failure.what}; tried {plural(failures, 'time')}",
                where=self.address.url,
                next="see to it that the server runs and can be reached, and run the same command again",
            ) from failure
        seconds = self._patience.seconds_after(failures, failure.retry_after)
        attempt = f"attempt {failures + 1} of {self._patience.attempts}"
        self._tell(Note(f"{self.address.url}: {failure.what}; {attempt} in {duration_text(seconds)}"))
        self._patience.pause(seconds)

    def _answered(self, request: Request) -> Answered:
        try:
            response = self._opener.open(request, timeout=self._patience.silence)
            assert isinstance(response, HTTPResponse)
            with response:
                content = response.read(MOST_BYTES + 1)
                is_whole = not response.length or len(content) > MOST_BYTES
        except (OSError, HTTPException) as error:
            raise no_answer(error, self.address.url, self._patience.silence) from error
        if not is_whole:
            raise Transient("the server broke its answer off")
        if len(content) > MOST_BYTES:
            raise self.unusable(f"its answer is longer than {size_text(MOST_BYTES)}")
        self._judge(response, content)
        return Answered({name.lower(): value for name, value in response.headers.items()}, content)

    def _judge(self, response: HTTPResponse, content: bytes) -> None:
        if response.status == 200:
            return
        said = f"the server answers {status_text(response.status)}{_reason(content)}"
        if response.status in TRANSIENT_STATUSES:
            raise Transient(said, retry_after=retry_after(response.headers.get("Retry-After")))
        if response.status in _TOO_LARGE:
            raise TooLarge(said)
        is_locked = response.status in (401, 403)
        next_step = "let the server answer without a password; mlctl sends none" if is_locked else f"write it as {FORM}"
        raise DataError(said, where=self.address.url, next=next_step)


def _reason(body: bytes) -> str:
    """What the server says went wrong, on one line."""
    try:
        said = json.loads(body)["error"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return ""
    return f" ({plain(said)})"
