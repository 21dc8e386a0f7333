"""What a hub refuses, and what is said of it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import LARGE, OLD, HubServer, hub_of_one_data_set, reference, use
from web_server import Act, Waits, answering

from mlctl.data.hub import fetch_hub
from mlctl.data.hub_reference import HubFile
from mlctl.errors import DataError, MachineError
from mlctl.events import silent

TOKEN = "hf_0123456789"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one data set, and an empty cache."""
    with hub_of_one_data_set(tmp_path / "hub", monkeypatch) as served:
        yield served


@pytest.fixture
def waits() -> Waits:
    return Waits()


def refusal(file: HubFile, waits: Waits) -> DataError:
    """What is said, at once and about this file."""
    with pytest.raises(DataError) as caught:
        fetch_hub(file, silent, waits.patience())
    assert caught.value.where == str(file)
    assert caught.value.exit_code == 3
    assert waits.pauses == []
    return caught.value


def test_a_token_opens_what_is_private_and_stays_with_the_hub(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetch_hub(reference(), silent).read_bytes() == LARGE
    assert {each.headers.get("authorization") for each in hub.asked} == {f"Bearer {TOKEN}"}
    assert {each.headers.get("authorization") for each in hub.storage.asked} == {None}


def test_what_the_hub_does_not_have_is_named(hub: HubServer, waits: Waits) -> None:
    stranger = HubFile("datasets", "nobody", "nothing", OLD, "x.csv", None)
    found = [refusal(each, waits).what for each in (stranger, reference(revision="c" * 40), reference("data/none.csv"))]
    assert found == [
        "the hub has no data set nobody/nothing that may be seen without HF_TOKEN",
        f"the data set has no revision {'c' * 40}",
        "the data set has no file data/none.csv at this revision",
    ]


def test_a_data_set_that_a_token_may_not_see_says_so(
    hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.token = TOKEN
    without = refusal(reference(), waits)
    assert without.what == "the hub has no data set owner/name that may be seen without HF_TOKEN"
    assert without.next == "mend the name, or set HF_TOKEN if it is private"
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    wrong = refusal(reference(), waits)
    assert wrong.what == "the hub has no data set owner/name that HF_TOKEN may see"
    assert wrong.next == "mend the name, or let HF_TOKEN hold a token with access"
    assert "hf_wrong" not in f"{wrong}"


def test_a_gated_data_set_says_where_to_ask(hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.token = TOKEN
    hub.gated.add("owner/name")
    without = refusal(reference(), waits)
    assert without.what == "the hub keeps this data set for those who asked for access, and HF_TOKEN is not set"
    assert f"ask for it on {hub.root}/datasets/owner/name, " in without.next
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert refusal(reference(), waits).what == "the hub keeps this data set for those who asked for access"


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (answering(401), "the hub answers 401 Unauthorized, and HF_TOKEN is not set"),
        (answering(403), "the hub answers 403 Forbidden, and HF_TOKEN is not set"),
        (answering(404), "the hub answers 404 Not Found"),
        (answering(400), "the hub answers 400 Bad Request"),
        (
            answering(403, {"X-Error-Message": "Access to this resource is disabled."}),
            "the hub has disabled this data set",
        ),
        (answering(200, {"ETag": '"x"'}), "http://127.0.0.1:PORT does not answer as a hub does"),
    ],
)
def test_other_refusals_are_said_in_our_words(hub: HubServer, waits: Waits, act: Act, what: str) -> None:
    hub.script.append(act)
    assert refusal(reference(), waits).what == what.replace("PORT", str(hub.port))


def test_a_token_that_is_refused_is_named_as_the_reason(
    hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_stale")
    hub.script.append(answering(401, {"X-Error-Message": "Invalid credentials in Authorization header"}))
    found = refusal(reference(), waits)
    assert found.what == "the hub answers 401 Unauthorized to the token in HF_TOKEN"
    assert "hf_stale" not in f"{found}"


def test_a_storage_that_refuses_is_named_without_its_signature(
    hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.storage.script.append(answering(403))
    found = refusal(reference(), waits)
    assert found.what == "the hub answers 403 Forbidden to the token in HF_TOKEN"
    assert "s3cret" not in f"{found}"


@pytest.mark.parametrize("endpoint", ["huggingface.co", "ftp://huggingface.co", "https://[::1"])
def test_a_hub_at_no_address_is_the_machines_fault(
    hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch, endpoint: str
) -> None:
    use(monkeypatch, endpoint)
    with pytest.raises(MachineError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert (caught.value.what, caught.value.where) == ("the environment names no address of a hub", "HF_ENDPOINT")
    assert waits.pauses == []


def test_a_hub_that_sends_in_circles_is_none(hub: HubServer, waits: Waits) -> None:
    hub.script.extend([answering(307, {"Location": "/again"})] * 30)
    assert refusal(reference(), waits).what == f"{hub.root} does not answer as a hub does"
