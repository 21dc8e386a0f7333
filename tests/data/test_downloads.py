"""Files from the web: downloaded once, checked always, continued where they broke off."""

import hashlib
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest
from web_server import (
    CONTENT,
    PATH,
    SHA256,
    Act,
    Handler,
    Waits,
    WebFile,
    WebServer,
    answering,
    as_usual,
    dropping_after,
    free_port,
    ranges,
    resetting_after,
    served,
    stalling_after,
    waiting_for,
    without_proxies,
)

from mlctl.data import download_cache
from mlctl.data.downloads import fetch_url
from mlctl.digests import file_digest
from mlctl.errors import DataError
from mlctl.events import Event, Note, Progress, Warned, silent


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of one's own; gives the folder of downloads."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    without_proxies(monkeypatch)
    return tmp_path / "cache" / "mlctl" / "downloads"


@pytest.fixture
def server() -> Iterator[WebServer]:
    with served(WebServer(files={PATH: WebFile(CONTENT)})) as world:
        yield world


@pytest.fixture
def waits() -> Waits:
    return Waits()


def test_a_file_lies_in_the_cache_under_its_digest_and_its_own_name(server: WebServer, cache: Path) -> None:
    path = fetch_url(server.url(PATH), SHA256, silent)
    assert path == cache / SHA256 / "digits.csv.gz"
    assert path.read_bytes() == CONTENT
    assert {each.name for each in (cache / ".partial").iterdir()} == {f"{SHA256}.lock"}


def test_a_download_tells_its_bytes_to_the_last(server: WebServer) -> None:
    told: list[Event] = []
    fetch_url(server.url(PATH), SHA256, told.append)
    progress = [each for each in told if isinstance(each, Progress)]
    assert progress == told
    assert (progress[-1].what, progress[-1].done, progress[-1].total) == ("download", len(CONTENT), len(CONTENT))
    assert progress[-1].detail == "digits.csv.gz  307.2 kB of 307.2 kB"


def test_what_is_in_the_cache_needs_no_server(server: WebServer) -> None:
    first = fetch_url(server.url(PATH), SHA256, silent)
    gone = f"http://127.0.0.1:{free_port()}{PATH}"
    assert fetch_url(gone, SHA256.upper(), silent) == first
    assert len(server.asked) == 1


def test_a_damaged_file_in_the_cache_is_told_of_and_downloaded_again(server: WebServer) -> None:
    path = fetch_url(server.url(PATH), SHA256, silent)
    path.write_bytes(CONTENT[:-1] + b"?")
    told: list[Event] = []
    assert fetch_url(server.url(PATH), SHA256, told.append).read_bytes() == CONTENT
    assert Warned(f"{path}: the file in the cache is damaged; it is downloaded again") in told


def test_a_file_that_stays_as_it_is_is_read_once_in_a_process(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = fetch_url(server.url(PATH), SHA256, silent)
    read: list[Path] = []

    def digest(file: Path) -> str:
        read.append(file)
        return file_digest(file)

    monkeypatch.setattr(download_cache, "file_digest", digest)
    fetch_url(server.url(PATH), SHA256, silent)
    fetch_url(server.url(PATH), SHA256, silent)
    assert read == [path, path], "it was written just now, and could be written again in the same instant"
    monkeypatch.setattr(download_cache, "SETTLED_NANOSECONDS", 0)
    fetch_url(server.url(PATH), SHA256, silent)
    fetch_url(server.url(PATH), SHA256, silent)
    assert read == [path, path, path]


def test_other_bytes_than_the_pinned_ones_are_refused_and_not_kept(server: WebServer, cache: Path) -> None:
    other = "0" * 64
    with pytest.raises(DataError) as caught:
        fetch_url(server.url(PATH), other, silent)
    assert caught.value.what == f"the file is not the one that is pinned: its sha256 is {SHA256}, not {other}"
    assert caught.value.where == server.url(PATH)
    assert [each.name for each in cache.rglob("*") if each.is_file()] == [f"{other}.lock"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_server_that_stumbles_is_asked_again(server: WebServer, waits: Waits, status: int) -> None:
    server.script.extend([answering(status), answering(status)])
    told: list[Event] = []
    fetch_url(server.url(PATH), SHA256, told.append, waits.patience())
    assert waits.pauses == [1.0, 2.0]
    notes = [each.text for each in told if isinstance(each, Note)]
    assert len(notes) == 2
    assert notes[0].startswith(f"{server.url(PATH)}: the server answers {status} ")
    assert notes[0].endswith("; attempt 2 of 5 in 1.0 s")


def test_a_server_that_stays_down_is_given_up_after_five_attempts(server: WebServer, waits: Waits) -> None:
    server.script.extend([answering(503)] * 9)
    with pytest.raises(DataError) as caught:
        fetch_url(server.url(PATH), SHA256, silent, waits.patience())
    assert caught.value.what == "the server answers 503 Service Unavailable; tried 5 times"
    assert caught.value.where == server.url(PATH)
    assert waits.pauses == [1.0, 2.0, 4.0, 8.0]
    assert len(server.asked) == 5


@pytest.mark.parametrize(("wish", "pause"), [("7", 7.0), (" 0 ", 0.0), ("86400", 120.0), ("9" * 50, 120.0)])
def test_a_server_says_itself_when_to_come_back(server: WebServer, waits: Waits, wish: str, pause: float) -> None:
    server.script.append(answering(429, {"Retry-After": wish}))
    fetch_url(server.url(PATH), SHA256, silent, waits.patience())
    assert waits.pauses == [pause]


def test_a_server_may_name_the_time_of_day_to_come_back(server: WebServer, waits: Waits) -> None:
    late = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(days=1), usegmt=True)
    server.script.extend([answering(503, {"Retry-After": each}) for each in (late, past, "soon")])
    fetch_url(server.url(PATH), SHA256, silent, waits.patience())
    in_a_minute, at_once, as_usually = waits.pauses
    # The date has whole seconds, and the download takes less than thirty of them.
    assert 30 < in_a_minute <= 60
    assert (at_once, as_usually) == (0.0, 4.0)


@pytest.mark.parametrize(
    ("status", "what"),
    [
        (401, "the server answers 401 Unauthorized"),
        (403, "the server answers 403 Forbidden"),
        (404, "the server answers 404 Not Found"),
        (410, "the server answers 410 Gone"),
        (799, "the server answers 799"),
    ],
)
def test_what_a_server_refuses_is_not_asked_for_again(server: WebServer, waits: Waits, status: int, what: str) -> None:
    server.script.append(answering(status, body=b"\x1b[31mGo away"))
    with pytest.raises(DataError) as caught:
        fetch_url(server.url(PATH), SHA256, silent, waits.patience())
    assert (caught.value.what, caught.value.where, caught.value.exit_code) == (what, server.url(PATH), 3)
    assert (waits.pauses, len(server.asked)) == ([], 1)


@pytest.mark.parametrize("act", [dropping_after, resetting_after])
def test_a_download_goes_on_where_the_line_was_dropped(
    server: WebServer, waits: Waits, act: Callable[[int], Act]
) -> None:
    server.script.extend([act(100_000), act(50_000)])
    assert fetch_url(server.url(PATH), SHA256, silent, waits.patience()).read_bytes() == CONTENT
    # A reset may take with it what was on its way.
    first, second, third = (int((each or "bytes=0-")[6:-1]) for each in ranges(server.asked))
    assert first == 0
    assert second <= 100_000
    assert second <= third <= second + 50_000
    if act is dropping_after:
        assert (second, third) == (100_000, 150_000)
        assert [each.headers.get("if-range") for each in server.asked] == [None, *[WebFile(CONTENT).etag] * 2]
        assert waits.pauses == [1.0, 1.0]


def test_a_line_that_is_always_dropped_after_some_more_arrives_in_the_end(server: WebServer, waits: Waits) -> None:
    server.script.extend([dropping_after(30_000)] * 10)
    assert fetch_url(server.url(PATH), SHA256, silent, waits.patience()).read_bytes() == CONTENT
    assert waits.pauses == [1.0] * 10


def test_a_line_that_is_always_dropped_at_the_same_byte_is_given_up(server: WebServer, waits: Waits) -> None:
    server.files[PATH].continues = False
    server.script.extend([dropping_after(1000)] * 9)
    with pytest.raises(DataError, match=r"the line was dropped after 1.0 kB of 307.2 kB; tried 5 times"):
        fetch_url(server.url(PATH), SHA256, silent, waits.patience())
    assert len(server.asked) == 5


@pytest.mark.parametrize("file", [WebFile(CONTENT, continues=False), WebFile(CONTENT, names_version=False)])
def test_a_download_that_cannot_be_continued_begins_again(server: WebServer, waits: Waits, file: WebFile) -> None:
    server.files[PATH] = file
    server.script.append(dropping_after(1000))
    assert fetch_url(server.url(PATH), SHA256, silent, waits.patience()).read_bytes() == CONTENT
    assert ranges(server.asked) == [None, "bytes=1000-" if file.names_version else None]


def test_a_file_that_changed_in_the_middle_begins_again(server: WebServer, waits: Waits) -> None:
    newer = server.files[PATH]
    server.files[PATH] = WebFile(b"an older version of the file")

    def change(handler: Handler) -> None:
        server.files[PATH] = newer
        as_usual(handler)

    server.script.extend([dropping_after(10), change])
    assert fetch_url(server.url(PATH), SHA256, silent, waits.patience()).read_bytes() == CONTENT
    assert ranges(server.asked) == [None, "bytes=10-"]


@pytest.mark.parametrize(
    "odd",
    [
        answering(416, {"Content-Range": f"bytes */{len(CONTENT)}"}),
        answering(206, {"Content-Range": "bytes 5-9/10"}, b"other"),
        answering(206, {}, b"other"),
    ],
)
def test_a_rest_that_is_none_makes_the_download_begin_again(server: WebServer, waits: Waits, odd: Act) -> None:
    server.script.extend([dropping_after(1000), odd])
    assert fetch_url(server.url(PATH), SHA256, silent, waits.patience()).read_bytes() == CONTENT
    assert ranges(server.asked) == [None, "bytes=1000-", None]


def test_a_body_of_unknown_length_is_read_to_its_end(server: WebServer, waits: Waits) -> None:
    server.files[PATH].announces_length = False
    server.script.append(dropping_after(100_000))
    told: list[Event] = []
    assert fetch_url(server.url(PATH), SHA256, told.append, waits.patience()).read_bytes() == CONTENT
    assert waits.pauses == [1.0]
    assert {each.total for each in told if isinstance(each, Progress)} == {0}


def test_a_server_that_says_nothing_is_given_up(server: WebServer, waits: Waits) -> None:
    event = threading.Event()
    server.script.extend([waiting_for(event), waiting_for(event)])
    with pytest.raises(DataError, match=r"the server said nothing for 0.05 s; tried 2 times"):
        fetch_url(server.url(PATH), SHA256, silent, waits.patience(attempts=2, silence=0.05))
    event.set()


def test_a_server_that_falls_silent_in_the_middle_is_given_up(server: WebServer, waits: Waits) -> None:
    until = threading.Event()
    server.script.append(stalling_after(0, until))
    with pytest.raises(DataError, match=r"the line was dropped after 0 B of 307.2 kB; tried 1 time"):
        fetch_url(server.url(PATH), SHA256, silent, waits.patience(attempts=1, silence=0.5))
    until.set()


def test_nobody_at_the_port_is_data_that_cannot_be_had(waits: Waits) -> None:
    url = f"http://127.0.0.1:{free_port()}{PATH}"
    with pytest.raises(DataError) as caught:
        fetch_url(url, SHA256, silent, waits.patience())
    assert caught.value.what == "the server refuses or closes the connection; tried 5 times"
    assert caught.value.where == url


def test_a_body_is_never_held_in_memory(server: WebServer) -> None:
    content = bytes(48 << 20)
    server.files["/zeros.bin"] = WebFile(content, announces_length=False)
    tracemalloc.start()
    try:
        path = fetch_url(server.url("/zeros.bin"), hashlib.sha256(content).hexdigest(), silent)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert path.stat().st_size == len(content)
    # A chunk of 1 MiB here, one of the server's, and what hashing reads at a time.
    assert peak < 6 << 20
