"""Hubs that stumble, lines that drop, and hubs that are none."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import LARGE, LARGE_SHA256, RESOLVE_LARGE, HubServer, asked, hub_of_one_data_set, reference, use
from web_server import Act, Waits, WebFile, answering, dropping_after, free_port, resetting_after

from mlctl.data.hub import fetch_hub
from mlctl.errors import DataError
from mlctl.events import Event, Note, Progress, silent


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A hub with one data set, and an empty cache."""
    with hub_of_one_data_set(tmp_path / "hub", monkeypatch) as served:
        yield served


@pytest.fixture
def waits() -> Waits:
    return Waits()


@pytest.mark.parametrize(
    ("acts", "pauses"),
    [
        ([answering(500), answering(502)], [1.0, 2.0]),
        ([answering(429, {"Retry-After": "9"})], [9.0]),
        ([answering(429, {"RateLimit": '"api";r=0;t=55'})], [55.0]),
        ([answering(429, {"RateLimit": '"api";r=7;t=55'})], [1.0]),
        ([answering(429, {"Retry-After": "86400"})], [120.0]),
    ],
)
@pytest.mark.parametrize("is_storage", [False, True])
def test_a_hub_that_stumbles_is_asked_again(
    hub: HubServer, waits: Waits, acts: list[Act], pauses: list[float], is_storage: bool
) -> None:
    (hub.storage if is_storage else hub).script.extend(acts)
    told: list[Event] = []
    assert fetch_hub(reference(), told.append, waits.patience()).read_bytes() == LARGE
    assert waits.pauses == pauses
    notes = [each.text for each in told if isinstance(each, Note)]
    assert len(notes) == len(pauses)
    assert all(each.startswith(f"{reference()}: the hub answers ") for each in notes)


def test_a_hub_that_stays_down_is_given_up_after_five_attempts(hub: HubServer, waits: Waits) -> None:
    hub.script.extend([answering(503)] * 9)
    with pytest.raises(DataError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert caught.value.what == "the hub answers 503 Service Unavailable; tried 5 times"
    assert caught.value.where == str(reference())
    assert waits.pauses == [1.0, 2.0, 4.0, 8.0]
    assert len(hub.asked) == 5


def starts(hub: HubServer) -> list[int]:
    """The first byte of the file that each request to the storage asked for."""
    return [int(each.headers.get("range", "bytes=0-")[6:-1]) for each in hub.storage.asked]


@pytest.mark.parametrize("act", [dropping_after(100_000), resetting_after(100_000)])
def test_a_download_goes_on_where_the_line_was_dropped(hub: HubServer, waits: Waits, act: Act) -> None:
    hub.storage.script.append(act)
    assert fetch_hub(reference(), silent, waits.patience()).read_bytes() == LARGE
    first, second = starts(hub)
    assert first == 0
    assert second <= 100_000
    assert waits.pauses == [1.0]


def test_a_storage_that_cannot_continue_sends_the_whole_again(hub: HubServer, waits: Waits) -> None:
    fetch_hub(reference("small.csv"), silent)
    hub.storage.script.append(dropping_after(100_000))
    fetch_hub(reference(), silent, waits.patience()).resolve().unlink()
    hub.storage.files[f"/storage/{LARGE_SHA256}"].continues = False
    hub.storage.script.extend([dropping_after(200_000), dropping_after(200_000)])
    told: list[Event] = []
    assert fetch_hub(reference(), told.append, waits.patience()).read_bytes() == LARGE
    assert waits.pauses == [1.0, 1.0, 2.0]
    assert max(each.done for each in told if isinstance(each, Progress)) == len(LARGE)


def test_a_line_that_is_always_dropped_at_the_same_byte_is_given_up(hub: HubServer, waits: Waits) -> None:
    hub.storage.script.extend([dropping_after(0)] * 9)
    with pytest.raises(DataError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert caught.value.what == "the line to the hub was dropped; tried 5 times"
    assert len(hub.storage.asked) == 5


@pytest.mark.parametrize("odd", [answering(403), answering(206, {"Content-Range": "bytes 5-9/10"}, b"other")])
def test_a_rest_that_is_none_makes_the_download_begin_again(hub: HubServer, waits: Waits, odd: Act) -> None:
    """The signature of a storage's address runs out, so the hub is asked for a new one."""
    hub.storage.script.extend([dropping_after(100_000), odd])
    assert fetch_hub(reference(), silent, waits.patience()).read_bytes() == LARGE
    assert starts(hub) == [0, 100_000, 0]
    assert [method for method, path in asked(hub) if path == RESOLVE_LARGE] == ["HEAD", "GET"] * 2


def test_a_download_does_not_begin_again_for_ever(hub: HubServer, waits: Waits) -> None:
    hub.storage.script.extend([dropping_after(100_000), answering(403)] * 9)
    with pytest.raises(DataError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert caught.value.what == "the hub does not continue the file; tried 5 times"
    assert starts(hub) == [0, 100_000] * 5


def test_a_file_of_another_size_than_announced_is_not_kept(hub: HubServer, tmp_path: Path, waits: Waits) -> None:
    fetch_hub(reference("small.csv"), silent)
    hub.storage.files[f"/storage/{LARGE_SHA256}"] = WebFile(LARGE[:-1])
    with pytest.raises(DataError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert caught.value.what == "the file came with another size than the hub announced; tried 5 times"
    assert not (tmp_path / "hub" / "datasets--owner--name" / "blobs" / LARGE_SHA256).exists()


def test_nobody_at_the_port_is_data_that_cannot_be_had(
    hub: HubServer, waits: Waits, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, f"http://127.0.0.1:{free_port()}")
    with pytest.raises(DataError) as caught:
        fetch_hub(reference(), silent, waits.patience())
    assert caught.value.what == "the hub cannot be reached; tried 5 times"
