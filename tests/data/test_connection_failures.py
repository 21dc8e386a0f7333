"""What an operating system says about a network, and whose fault that is."""

import errno
import random
import socket
import ssl
from urllib.error import URLError

import httpx2
import pytest
from web_server import Waits

from mlctl.data.hub_client import transport_failure
from mlctl.data.remote_failures import connection_failure
from mlctl.data.remote_retrying import Attempts, Patience, Transient
from mlctl.errors import DataError, MachineError
from mlctl.events import silent

ASLEEP = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
UNKNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")
UNREACHABLE = OSError(errno.ENETUNREACH, "Network is unreachable")
UNTRUSTED = ssl.SSLCertVerificationError(1, "certificate verify failed")
UNTRUSTED.verify_message = "certificate has expired"


def wrapped(cause: OSError) -> httpx2.ConnectError:
    """As httpx2 raises it."""
    try:
        raise httpx2.ConnectError("failed") from cause
    except httpx2.ConnectError as error:
        return error


@pytest.mark.parametrize("cause", [ASLEEP, UNREACHABLE])
def test_a_machine_without_a_network_is_at_fault_itself(cause: OSError) -> None:
    """No sandbox can be trusted to have no network, or one, so the errors are made here as the system makes them."""
    found = [connection_failure(URLError(cause), "url"), transport_failure(wrapped(cause), "hf://x")]
    for each in found:
        assert isinstance(each, Transient)
        with pytest.raises(MachineError, match="hf://x: this machine reaches no network; tried 1 time") as caught:
            Attempts("hf://x", Waits().patience(attempts=1), silent).failed(each)
        assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("cause", "what"),
    [(UNKNOWN, "there is no such host"), (UNTRUSTED, "the server cannot prove who it is (certificate has expired)")],
)
def test_a_host_that_is_none_is_not_asked_twice(cause: OSError, what: str) -> None:
    found = connection_failure(URLError(cause), "https://nowhere.invalid/x")
    assert isinstance(found, DataError)
    assert (found.what, found.where) == (what, "https://nowhere.invalid/x")
    with pytest.raises(DataError) as caught:
        transport_failure(wrapped(cause), "hf://x")
    assert (caught.value.what, caught.value.where) == (what, "hf://x")


def test_what_is_not_known_may_pass() -> None:
    assert connection_failure(URLError(ConnectionRefusedError()), "url") is None
    assert connection_failure(URLError("unknown"), "url") is None
    found = [
        transport_failure(error, "hf://x").what
        for error in (
            httpx2.ReadTimeout("slow"),
            httpx2.ProxyError("no"),
            httpx2.ConnectError("no"),
            httpx2.ReadError("gone"),
        )
    ]
    assert found == [
        "the hub is silent",
        "the proxy of the environment refuses the connection",
        "the hub cannot be reached",
        "the line to the hub was dropped",
    ]


def test_pauses_double_up_to_half_a_minute_and_half_of_each_is_chance() -> None:
    longest, shortest = (Patience(chance=lambda share=share: share) for share in (1.0, 0.0))  # type: ignore[misc]
    assert [longest.seconds_after(failures, None) for failures in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]
    assert [shortest.seconds_after(failures, None) for failures in range(1, 8)] == [0.5, 1, 2, 4, 8, 15, 15]
    assert all(0.5 <= Patience().seconds_after(1, None) <= 1 for _ in range(100))


def test_chance_does_not_move_the_state_that_shuffles_data() -> None:
    random.seed(3)
    before = random.getstate()
    Patience().seconds_after(1, None)
    assert random.getstate() == before
