"""What the ledger of sources remembers is proved by lies: a wrong digest in it shows who was believed."""

import json
import os
import time
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.engine.sources import SourceLedger
from mlctl.errors import DataError

LIE = "0" * 64


def settled(path: Path, text: str) -> Path:
    """A file that last changed long ago, as far as its modification time says."""
    path.write_text(text)
    os.utime(path, ns=(0, 0))
    return path


def look(ledger: Path, file: Path) -> str:
    return SourceLedger(ledger).look(file, file.parent).sha256


def lie_about(ledger: Path, file: Path) -> None:
    """Let the ledger hold a wrong digest for the file as it is now."""
    status = file.stat()
    stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    ledger.write_text(json.dumps({str(file): [*stamp, LIE]}))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return settled(tmp_path / "rows.csv", "a,b\n1,2\n")


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "sources.json"


def test_a_file_is_told_by_name_content_and_size(file: Path, ledger: Path) -> None:
    found = SourceLedger(ledger).look(file, file.parent)
    assert (found.path, found.sha256, found.bytes) == ("rows.csv", sha256(b"a,b\n1,2\n").hexdigest(), 8)


def test_a_file_outside_the_recipes_folder_is_told_by_the_way_there(file: Path, ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    assert SourceLedger(ledger).look(file, tmp_path / "recipes").path == f"../{file.name}"


def test_the_path_is_told_without_detours(file: Path, ledger: Path, tmp_path: Path) -> None:
    detour = tmp_path / "recipes" / ".." / "rows.csv"
    (tmp_path / "recipes").mkdir()
    assert SourceLedger(ledger).look(detour, tmp_path).path == "rows.csv"


def test_a_remembered_file_is_not_read_again(file: Path, ledger: Path) -> None:
    lie_about(ledger, file)
    assert look(ledger, file) == LIE


def test_a_file_of_another_size_is_read_again(file: Path, ledger: Path) -> None:
    lie_about(ledger, file)
    settled(file, "a,b\n1,23\n")
    assert look(ledger, file) == sha256(b"a,b\n1,23\n").hexdigest()


def test_a_file_with_another_modification_time_is_read_again(file: Path, ledger: Path) -> None:
    lie_about(ledger, file)
    os.utime(file, ns=(0, 1))
    assert look(ledger, file) != LIE


def test_a_file_whose_modification_time_was_set_back_is_read_again(file: Path, ledger: Path) -> None:
    """The change time gives it away."""
    lie_about(ledger, file)
    before = file.stat()
    file.write_text("a,b\n1,3\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (before.st_size, before.st_mtime_ns, before.st_ino)
    assert look(ledger, file) == sha256(b"a,b\n1,3\n").hexdigest()


def test_a_file_that_took_the_place_of_another_is_read_again(file: Path, ledger: Path, tmp_path: Path) -> None:
    other = settled(tmp_path / "other.csv", "a,b\n9,9\n")
    lie_about(ledger, file)
    other.rename(file)
    assert look(ledger, file) == sha256(b"a,b\n9,9\n").hexdigest()


def test_a_file_that_changed_a_moment_ago_is_not_remembered(file: Path, ledger: Path) -> None:
    """Its change time is now, whatever its modification time says: it could change again within one tick."""
    book = SourceLedger(ledger)
    book.look(file, file.parent)
    book.save()
    assert not ledger.exists()


def test_a_file_that_has_settled_is_remembered(file: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    book = SourceLedger(ledger)
    book.look(file, file.parent)
    book.save()
    assert json.loads(ledger.read_text())[str(file)][-1] == sha256(b"a,b\n1,2\n").hexdigest()
    lie_about(ledger, file)
    assert look(ledger, file) == LIE


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=30)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    ).map(lambda value: json.dumps(value).encode())
    | st.just(b"[" * 100_000)
)
def test_a_corrupt_ledger_is_a_ledger_that_knows_nothing(file: Path, ledger: Path, corrupt: bytes) -> None:
    ledger.write_bytes(corrupt)
    assert look(ledger, file) == sha256(b"a,b\n1,2\n").hexdigest()


@pytest.mark.parametrize("entry", [[1], None, "x", [0, 0, 0, 0, 0, 0], {"size": 8}])
def test_a_corrupt_entry_is_not_believed(file: Path, ledger: Path, entry: object) -> None:
    ledger.write_text(json.dumps({str(file): entry}))
    assert look(ledger, file) == sha256(b"a,b\n1,2\n").hexdigest()


def test_a_ledger_that_cannot_be_written_is_only_slower(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    for place in (file / "sources.json", tmp_path / "nowhere" / "sources.json"):
        book = SourceLedger(place)
        book.look(file, file.parent)
        book.save()
    assert [path.name for path in tmp_path.iterdir()] == ["rows.csv"]


def test_a_file_that_is_not_there_is_a_data_error(tmp_path: Path, ledger: Path) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        look(ledger, tmp_path / "gone.csv")
    assert caught.value.where == str(tmp_path / "gone.csv")
