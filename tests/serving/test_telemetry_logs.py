"""The server's logs: one line each, safe to look at, and never in anybody's way."""

import calendar
import json
import os
import pty
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock
from hypothesis import given
from hypothesis import strategies as st

from mlctl.events import Note, StepSkipped, Warned
from mlctl.serving.telemetry.access_log import Access, AccessLog, json_access, plain_access, request_id
from mlctl.serving.telemetry.event_log import json_event, plain_event
from mlctl.serving.telemetry.json_lines import json_line, shown, utc_text
from mlctl.serving.telemetry.line_writer import LineWriter
from mlctl.serving.telemetry.logs import open_logs

NOON = 1_769_860_800.0
LONG_ENOUGH = 30.0
"""Seconds that no test needs, and none waits without end."""


def access(path: str = "/v2/models/digits/infer", caller: str = "ci", given: str = "r-1") -> Access:
    return Access("127.0.0.1", caller, "POST", path, 200, 3120, 0.00125, given, "digits", 3)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for each in (reading, writing):
        with suppress(OSError):
            os.close(each)


def everything(reading: int) -> bytes:
    """What comes until the other end is closed."""
    with os.fdopen(os.dup(reading), "rb") as stream:
        return stream.read()


def test_a_request_is_one_json_line_with_all_that_is_known() -> None:
    assert json.loads(json_access(access(), NOON + 0.25)) == {
        "time": "2026-01-31T12:00:00.250Z",
        "client": "127.0.0.1",
        "caller": "ci",
        "method": "POST",
        "path": "/v2/models/digits/infer",
        "status": 200,
        "bytes": 3120,
        "milliseconds": 1.25,
        "model": "digits",
        "version": 3,
        "request_id": "r-1",
    }
    unknown = json.loads(json_access(Access("::1", "anonymous", "GET", "/x", 404, 2, 0.0, "r-2"), NOON))
    assert (unknown["model"], unknown["version"]) == (None, None)


def test_a_person_reads_words() -> None:
    words = plain_access(access(), NOON).decode().split("  ")[1:]
    assert words == [
        "200", "POST /v2/models/digits/infer", "1.2 ms", "3120 B", "ci@127.0.0.1", "digits@3", "r-1\n",
    ]  # fmt: skip
    assert plain_event("warning", "version 4 is refused", NOON).decode().endswith("  warning: version 4 is refused\n")
    assert plain_event("info", "version 4 takes requests", NOON).decode().endswith("00  version 4 takes requests\n")


@given(st.text(), st.text(), st.text())
def test_nothing_that_a_terminal_obeys_comes_through(path: str, caller: str, given: str) -> None:
    for line in (
        json_access(access(path, caller, given), NOON),
        plain_access(access(path, caller, given), NOON),
        json_event("info", path, NOON),
        plain_event("warning", path, NOON),
    ):
        text = line.decode()
        assert text.endswith("\n")
        assert text[:-1].isprintable()


@given(st.dictionaries(st.text(), st.text() | st.integers(-(2**63), 2**63 - 1) | st.none() | st.booleans()))
def test_a_json_line_says_what_was_put_in_in_printable_ascii(fields: dict[str, Any]) -> None:
    line = json_line(fields)
    assert json.loads(line) == fields
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])


@given(st.text())
def test_what_is_printable_is_shown_as_it_is_and_the_rest_spelled_out(text: str) -> None:
    assert shown(text).isprintable()
    if text.isprintable():
        assert shown(text) == text
    if "\\" not in text:
        assert shown(text).encode("latin-1", "backslashreplace").decode("unicode_escape") == text


def test_escapes_are_spelled_as_python_spells_them() -> None:
    assert shown("a\x1b[31m\r\n\x7f\u202eé") == "a\\x1b[31m\\r\\n\\x7f\\u202eé"


@given(st.integers(0, 253_402_300_799_000))
def test_a_time_is_right_to_the_millisecond(milliseconds: int) -> None:
    text = utc_text(milliseconds / 1000)
    seconds = calendar.timegm(time.strptime(text[:-5], "%Y-%m-%dT%H:%M:%S"))
    assert seconds * 1000 + int(text[-4:-1]) == milliseconds


@pytest.mark.parametrize("given", ["a", "0af7651916cd43dd8448eb211c80319c", "x/1:2@3=4+5_6-7.8", "a" * 128])
def test_a_plain_request_id_is_taken_over(given: str) -> None:
    assert request_id(given) == given


@given(st.none() | st.sampled_from(["", "a b", "a\n", "a" * 129, "\x1b[0m", "é"]))
def test_any_other_is_made_and_is_nobody_elses(given: str | None) -> None:
    made = [request_id(given) for _ in range(3)]
    assert len({*made, str(given)}) == 4
    assert all(request_id(each) == each for each in made)


def test_lines_come_in_order_and_none_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "log"
    with file.open("wb") as stream:
        logs = open_logs(stream.fileno())
        for number in range(1000):
            logs.access.answered(access(given=f"r-{number}"))
        logs.events.tell(Note("drained"))
        logs.close(LONG_ENOUGH)
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    assert [line.get("request_id") for line in lines[:-1]] == [f"r-{number}" for number in range(1000)]
    assert (lines[-1]["level"], lines[-1]["event"]) == ("info", "drained")


def test_lines_come_soon_without_an_end(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    logs = open_logs(writing)
    with os.fdopen(os.dup(reading), "rb") as stream:
        for word in ("first", "second"):
            logs.events.tell(Note(word))
            assert json.loads(stream.readline())["event"] == word
    logs.close(LONG_ENOUGH)


def test_who_is_quiet_is_told_of_warnings_alone(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    logs = open_logs(writing, is_quiet=True)
    logs.access.answered(access())
    logs.events.tell(Note("drained"))
    logs.events.tell(StepSkipped("train"))
    logs.events.tell(Warned("version 4 is refused"))
    logs.close(LONG_ENOUGH)
    os.close(writing)
    assert [json.loads(line)["event"] for line in everything(reading).splitlines()] == ["version 4 is refused"]


def test_a_stream_that_takes_nothing_costs_its_lines_and_no_time_and_says_how_many(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    line = b"x" * 999 + b"\n"
    writer = LineWriter(writing, lambda count: b"%d lost\n" % count, gather_seconds=0.0, most_bytes=100 * len(line))
    # Fills the pipe, and then what may wait. Nobody reads: were anything waited for, this would never end.
    for _ in range(1000):
        writer.write(line)
    while writer.dropped == 0:
        writer.write(line)
    lost = writer.dropped
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(everything(reading)))
    reader.start()
    writer.close(LONG_ENOUGH)
    os.close(writing)
    reader.join(LONG_ENOUGH)
    lines = found[0].splitlines(keepends=True)
    said = [each for each in lines if each != line]
    assert sum(int(each.split()[0]) for each in said) == lost == writer.dropped


def test_closing_gives_up_on_a_stream_that_is_stuck(pipe: tuple[int, int]) -> None:
    _, writing = pipe
    writer = LineWriter(writing, lambda count: b"lost\n", gather_seconds=0.0)
    writer.write(b"x" * 999_999 + b"\n")
    before = time.monotonic()
    writer.close(0.01)
    assert time.monotonic() - before < LONG_ENOUGH


def test_a_reader_that_has_gone_and_a_full_disk_cost_only_the_lines(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    full = os.open("/dev/full", os.O_WRONLY)
    for descriptor in (writing, full):
        writer = LineWriter(descriptor, lambda count: b"lost\n", gather_seconds=0.0)
        for _ in range(3):
            writer.write(b"line\n")
        writer.close(LONG_ENOUGH)
        assert writer.dropped == 3
    os.close(full)


def test_a_stream_that_someone_made_nonblocking_still_gets_every_line(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.set_blocking(writing, False)
    writer = LineWriter(writing, lambda count: b"lost\n", gather_seconds=0.0)
    text = b"".join(b"%099d\n" % number for number in range(3000))
    for line in text.splitlines(keepends=True):
        writer.write(line)
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_exactly(reading, len(text))))
    reader.start()
    reader.join(LONG_ENOUGH)
    writer.close(LONG_ENOUGH)
    assert found == [text]


def read_exactly(reading: int, count: int) -> bytes:
    text = b""
    while len(text) < count:
        text += os.read(reading, count - len(text))
    return text


def test_on_a_terminal_the_lines_are_words_and_its_settings_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    master, terminal = pty.openpty()
    logs = open_logs(terminal)
    logs.access.answered(access(path="/\x1b[2J"))
    logs.close(LONG_ENOUGH)
    text = os.read(master, 4096).decode()
    assert "200  POST /\\x1b[2J  1.2 ms" in text
    assert "\x1b" not in text
    assert os.get_blocking(terminal)
    monkeypatch.setenv("TERM", "dumb")
    logs = open_logs(terminal)
    logs.events.tell(Note("drained"))
    logs.close(LONG_ENOUGH)
    assert json.loads(os.read(master, 4096))["event"] == "drained"
    for each in (master, terminal):
        os.close(each)


def test_a_process_with_a_stuck_log_ends() -> None:
    code = """
import os
from mlctl.events import Note
from mlctl.serving.telemetry.logs import open_logs
reading, writing = os.pipe()
logs = open_logs(writing)
for number in range(20_000):
    logs.events.tell(Note("x" * 100))
logs.close(0.1)
"""
    assert subprocess.run([sys.executable, "-c", code], timeout=LONG_ENOUGH, check=False).returncode == 0


def test_logs_need_nothing_heavy() -> None:
    code = "import sys, mlctl.serving.telemetry.logs; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path("/"))
    assert not {"numpy", "onnxruntime", "pydantic", "asyncio"} & set(found.stdout.split())


def test_the_clock_of_a_log_is_the_one_it_is_given(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    writer = LineWriter(writing, lambda count: b"lost\n")
    AccessLog(writer, now=Clock(NOON)).answered(access())
    writer.close(LONG_ENOUGH)
    os.close(writing)
    assert json.loads(everything(reading))["time"] == "2026-01-31T12:00:00.000Z"
