"""The audit: a line for each use before its answer goes out, or no answer."""

import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from clocks import Clock
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import MachineError, UsageError
from mlctl.events import Event, Note, Warned
from mlctl.serving.guards.audit import FileAudit, Use, audit_of
from mlctl.serving.refusals import NotReady

BODY = b'{"inputs": []}'


class Books:
    """An audit over a file, with clocks that a test moves and what it was told."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.clock, self.now = Clock(), Clock(1_769_860_800.123)
        self.told: list[Event] = []
        self.audit = FileAudit(file, self.told.append, clock=self.clock, now=self.now)

    def lines(self, file: Path | None = None) -> list[Any]:
        """What the file says; a line that was cut short is None."""
        return [_parsed(line) for line in (file or self.file).read_bytes().splitlines()]

    def numbers(self, file: Path | None = None) -> list[int]:
        """The versions of the lines that are whole, which tests tell them apart by."""
        return [line["version"] for line in self.lines(file) if line]


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def use(version: int, status: int = 200) -> Use:
    return Use("ci", "127.0.0.1", "infer", "digits", version, status, BODY)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Books]:
    made = Books(tmp_path / "audit.jsonl")
    yield made
    made.audit.close()


@contextmanager
def no_room_beyond(size: int) -> Iterator[None]:
    """The system takes no byte of any file beyond this size, and cuts short what goes over it, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_use_is_in_the_file_when_record_returns_with_its_input_as_a_hash_alone(books: Books) -> None:
    books.audit.require_writable()
    books.audit.record(use(3))
    assert books.lines() == [
        {
            "time": "2026-01-31T12:00:00.123Z",
            "caller": "ci",
            "client": "127.0.0.1",
            "action": "infer",
            "model": "digits",
            "version": 3,
            "status": 200,
            "sha256": hashlib.sha256(BODY).hexdigest(),
        }
    ]
    assert stat.S_IMODE(books.file.stat().st_mode) == 0o600


@given(st.text(), st.text(), st.text())
def test_whatever_callers_send_is_one_line_of_printable_ascii(caller: str, action: str, model: str) -> None:
    file = Path(f"/proc/self/fd/{os.memfd_create('audit')}")
    audit = FileAudit(file)
    audit.record(Use(caller, "127.0.0.1", action, model, None, 200, b""))
    audit.close()
    line = file.read_bytes()
    os.close(int(file.name))
    found = json.loads(line)
    assert (found["caller"], found["action"], found["model"]) == (caller, action, model)
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])


def test_lines_are_appended_to_what_is_there_after_an_end_for_what_a_crash_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b'{"version":1}\n{"versi')
    books = Books(file)
    books.audit.record(use(2))
    books.audit.close()
    assert books.numbers() == [1, 2]
    assert file.read_bytes().startswith(b'{"version":1}\n{"versi\n')


def test_a_renamed_file_is_followed_by_a_new_one_within_a_second_and_no_line_is_lost(
    books: Books, tmp_path: Path
) -> None:
    rotated = tmp_path / "audit.jsonl.1"
    books.audit.record(use(1))
    books.file.rename(rotated)
    books.audit.record(use(2))
    books.clock.pass_by(1.0)
    books.audit.record(use(3))
    assert (books.numbers(rotated), books.numbers()) == ([1, 2], [3])
    assert stat.S_IMODE(books.file.stat().st_mode) == 0o600


def test_a_full_disk_holds_answers_back_and_every_line_is_written_once_there_is_room(books: Books) -> None:
    books.audit.record(use(1))
    with no_room_beyond(books.file.stat().st_size + 40):
        for version in (2, 3):
            with pytest.raises(NotReady, match="the audit cannot be written") as refused:
                books.audit.record(use(version))
            assert refused.value.retry_after
        with pytest.raises(NotReady):
            books.audit.require_writable()
        books.clock.pass_by(1.0)
        with pytest.raises(NotReady):
            books.audit.require_writable()
    with pytest.raises(NotReady):
        books.audit.require_writable()
    books.clock.pass_by(1.0)
    books.audit.require_writable()
    books.audit.record(use(4))
    assert books.numbers() == [1, 2, 3, 4]
    assert [line["status"] for line in books.lines() if line] == [200, 503, 503, 200]
    assert [type(each) for each in books.told] == [Warned, Note]


@given(room=st.integers(0, 900), grown=st.lists(st.integers(0, 300), max_size=4))
def test_wherever_a_line_is_cut_all_lines_are_there_whole_in_the_end(room: int, grown: list[int]) -> None:
    file = Path(f"/proc/self/fd/{os.memfd_create('audit')}")
    books = Books(file)
    with no_room_beyond(room):
        for version in range(4):
            try:
                books.audit.record(use(version))
            except NotReady:
                continue
    for more in grown:
        room += more
        books.clock.pass_by(1.0)
        with no_room_beyond(room):
            try:
                books.audit.require_writable()
            except NotReady:
                continue
    books.clock.pass_by(1.0)
    books.audit.require_writable()
    books.audit.close()
    numbers = books.numbers()
    os.close(int(file.name))
    assert numbers == [0, 1, 2, 3]


def test_refusals_while_nothing_can_be_written_are_not_kept_and_take_no_memory(books: Books) -> None:
    with no_room_beyond(0):
        with pytest.raises(NotReady):
            books.audit.record(use(1))
        for _ in range(1000):
            books.audit.record(use(2, status=503))
    books.clock.pass_by(1.0)
    books.audit.require_writable()
    assert books.numbers() == [1]


def test_who_has_no_token_writes_no_line_and_who_may_not_does(books: Books) -> None:
    books.audit.record(use(1, status=401))
    books.audit.record(use(2, status=403))
    assert books.numbers() == [2]


def test_a_path_that_leads_nowhere_any_more_is_no_account(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    books = Books(folder / "audit.jsonl")
    books.file.unlink()
    folder.rmdir()
    books.clock.pass_by(1.0)
    with pytest.raises(NotReady):
        books.audit.record(use(1))
    folder.mkdir()
    books.clock.pass_by(1.0)
    books.audit.require_writable()
    assert books.numbers() == [1]
    books.audit.close()


def test_what_cannot_be_an_audit_is_refused_at_the_start(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/null"), tmp_path / "nowhere" / "audit.jsonl"):
        with pytest.raises(UsageError) as refused:
            audit_of(path)
        assert (refused.value.where or "").startswith(str(path.parent))
    with no_room_beyond(0):
        (tmp_path / "cut.jsonl").touch()
    cut = tmp_path / "full.jsonl"
    cut.write_text("no end")
    with no_room_beyond(0), pytest.raises(MachineError):
        audit_of(cut)


def test_without_a_file_nothing_is_kept_and_nothing_refused() -> None:
    audit = audit_of(None)
    audit.require_writable()
    audit.record(use(1))
    audit.close()


def test_two_servers_may_share_a_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    code = """
import sys
from pathlib import Path
from mlctl.serving.guards.audit import Use, audit_of
audit = audit_of(Path(sys.argv[1]))
for number in range(500):
    audit.record(Use(sys.argv[2], "127.0.0.1", "infer", "digits", number, 200, b""))
audit.close()
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(file), who]) for who in ("a", "b")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    lines = [json.loads(line) for line in file.read_bytes().splitlines()]
    for who in ("a", "b"):
        assert [line["version"] for line in lines if line["caller"] == who] == list(range(500))
