"""Archives are opened within their folder, or refused before anything is written outside of it."""

import gzip
import io
import random
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.data import archives
from mlctl.data.archives import extract, matches
from mlctl.errors import DataError

FILES = {
    "cat/1.png": b"first",
    "cat/2.png": bytes(range(256)) * 40,
    "empty": b"",
    "deep/er/and/ü.csv": b"a,b\n",
    f"{'long/' * 40}name.txt": b"a name that no plain header holds",
    f"{'n' * 200}.bin": b"one part of more than a hundred letters",
}


def zipped(files: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.mkdir("folder")
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: Mapping[str, bytes], form: int = tarfile.PAX_FORMAT, *odd: tarfile.TarInfo) -> bytes:
    """A tar archive of a folder, the files, and `odd` entries without content."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        archive.addfile(entry("folder", tarfile.DIRTYPE))
        for name, content in files.items():
            info = entry(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for info in odd:
            archive.addfile(info)
    return stream.getvalue()


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


FORMS: dict[str, Callable[[Mapping[str, bytes]], bytes]] = {
    "stored.zip": lambda files: zipped(files, zipfile.ZIP_STORED),
    "deflated.zip": zipped,
    "pax.tar": tarred,
    "gnu.tar": lambda files: tarred(files, tarfile.GNU_FORMAT),
    "a.tar.gz": lambda files: gzip.compress(tarred(files)),
    "a.tgz": lambda files: gzip.compress(tarred(files, tarfile.GNU_FORMAT)),
    "a.tar.zst": lambda files: zstd(tarred(files)),
    "no-suffix": lambda files: gzip.compress(tarred(files)),
}


def opened(folder: Path, content: bytes, *patterns: str | None) -> dict[str, bytes]:
    """What is extracted, by name; everything lies within its folder."""
    (folder / "archive").write_bytes(content)
    shutil.rmtree(folder / "into", ignore_errors=True)
    found = extract(folder / "archive", "shown", patterns or (None,), folder / "into")
    assert all(path == folder / "into" / name for name, path in found.items())
    assert all(path.is_file() and not path.is_symlink() for path in found.values())
    return {name: path.read_bytes() for name, path in found.items()}


def refused(call: Callable[[], object]) -> DataError | None:
    """The refusal that a call ends in, if it does."""
    try:
        call()
    except DataError as error:
        return error
    return None


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_files_that_went_in(tmp_path: Path, form: str) -> None:
    assert opened(tmp_path, FORMS[form](FILES)) == FILES


@pytest.mark.parametrize("form", ["deflated.zip", "a.tar.gz"])
def test_only_what_a_pattern_names_is_written(tmp_path: Path, form: str) -> None:
    assert set(opened(tmp_path, FORMS[form](FILES), "cat/*.png", "empty")) == {"cat/1.png", "cat/2.png", "empty"}
    written = {path.relative_to(tmp_path / "into").as_posix() for path in (tmp_path / "into").rglob("*")}
    assert written == {"cat", "cat/1.png", "cat/2.png", "empty"}


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*", {"a.csv"}),
        ("*/*", {"b/c.csv"}),
        ("**/*.csv", {"a.csv", "b/c.csv", "b/d/e.csv"}),
        ("b/**/e.csv", {"b/d/e.csv"}),
        ("b/**/c.csv", {"b/c.csv"}),
        ("b/[!c]*/*", {"b/d/e.csv"}),
        (".*", {".f.csv"}),
        ("**/.*", {".f.csv", "b/.g.csv"}),
        ("B/c.csv", set()),
        (None, {"a.csv", "b/c.csv", "b/d/e.csv"}),
    ],
)
def test_globs_over_members_are_those_of_a_shell(pattern: str | None, names: set[str]) -> None:
    every = ["a.csv", "b/c.csv", "b/d/e.csv", ".f.csv", "b/.g.csv", ".h/i.csv"]
    found = {name for name in every if matches(PurePosixPath(name), pattern)}
    assert found - {".h/i.csv"} == names


def test_a_pattern_that_matches_nothing_is_answered_with_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no file of the archive matches '\*\.csv'") as caught:
        opened(tmp_path, zipped(FILES), "cat/*", "*.csv")
    assert caught.value.where == "shown"
    assert caught.value.next.startswith("it holds cat/1.png, cat/2.png, empty, ")
    assert caught.value.next.endswith(" and 1 more")


def test_an_empty_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no files"):
        opened(tmp_path, zipped({}))


def linked_zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "member", "what"),
    [
        (zipped({"../out": b"x"}), "../out", "outside the folder"),
        (zipped({"a/../../out": b"x"}), "a/../../out", "outside the folder"),
        (zipped({"/tmp/out": b"x"}), "/tmp/out", "outside the folder"),
        (tarred({"../out": b"x"}), "../out", "outside the folder"),
        (tarred({"/out": b"x"}, tarfile.GNU_FORMAT), "/out", "outside the folder"),
        (tarred({f"{'a/../' * 60}../out": b"x"}), f"{'a/../' * 60}../out", "outside the folder"),
        (tarred({}, tarfile.PAX_FORMAT, entry("../folder", tarfile.DIRTYPE)), "../folder", "outside the folder"),
        (linked_zip(), "link", "holds a link"),
        (tarred({}, tarfile.PAX_FORMAT, entry("a", tarfile.SYMTYPE, "/etc/passwd")), "a", "holds a link"),
        (tarred({}, tarfile.PAX_FORMAT, entry("a", tarfile.LNKTYPE, "../b")), "a", "holds a link"),
        (tarred({}, tarfile.PAX_FORMAT, entry("a", tarfile.FIFOTYPE)), "a", "holds a device"),
        (tarred({}, tarfile.PAX_FORMAT, entry("a", tarfile.CHRTYPE)), "a", "holds a device"),
        (tarred({"a/b": b"1", "./a//b": b"2"}), "./a//b", "two files of this name"),
        (tarred({"a": b"1", "a/b": b"2"}), "a/b", "both a file and a folder"),
        (tarred({"a/b": b"1", "a": b"2"}), "a", "both a file and a folder"),
        (zipped({"a\nb": b"x"}), r"'a\nb'", "cannot be shown"),
        (tarred({"a\udcff": b"x"}, tarfile.GNU_FORMAT), r"'a\udcff'", "cannot be shown"),
        (zipped({"n" * 300: b"x"}), "n" * 300, "too long"),
        (zipped({"a": b"x"}, zipfile.ZIP_LZMA), "a", "compressed in another way"),
    ],
)
def test_what_is_not_safe_to_open_is_refused_by_member(tmp_path: Path, content: bytes, member: str, what: str) -> None:
    with pytest.raises(DataError, match=what) as caught:
        opened(tmp_path, content)
    assert caught.value.where == f"shown!{member}"
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "into"}


def test_a_zip_archive_that_asks_for_a_password_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped({"a": b"x"}))
    for magic, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.rindex(magic) + place] |= 1
    with pytest.raises(DataError, match="encrypted") as caught:
        opened(tmp_path, bytes(content))
    assert caught.value.where == "shown!a"


@pytest.mark.parametrize(
    "packed",
    [lambda files: zipped(files), lambda files: zstd(tarred(files)), lambda files: gzip.compress(tarred(files), 9)],
    ids=["zip", "tar.zst", "tar.gz"],
)
def test_what_grows_more_than_a_thousandfold_is_refused(
    tmp_path: Path, packed: Callable[[dict[str, bytes]], bytes]
) -> None:
    """Deflate makes 1,029 bytes of one where there is nothing but zeros; what is real is far from that."""
    content = packed({"zeros": bytes(64 << 20)})
    assert (64 << 20) / len(content) > 1010
    with pytest.raises(DataError, match="grows more than 1,000-fold"):
        opened(tmp_path, content)


def test_what_grows_almost_so_far_is_opened(tmp_path: Path) -> None:
    files = {"zeros": bytes(30 << 20) + random.Random(0).randbytes(4096)}
    content = zipped(files)
    assert 800 < len(files["zeros"]) / len(content) < 1000
    assert opened(tmp_path, content) == files


def test_a_size_that_was_forged_is_refused(tmp_path: Path) -> None:
    forged = zipped({"zeros": bytes(3 << 20)})
    central = forged.rindex(b"PK\x01\x02")
    forged = forged[: central + 24] + struct.pack("<I", 1 << 31) + forged[central + 28 :]
    with pytest.raises(DataError, match=r"grows more than 1,000-fold, from 3,0\d\d bytes to 2,147,483,648"):
        opened(tmp_path, forged)


def test_files_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """A zip bomb of overlapping files (D. Fifield, "A better zip bomb", 2019) declares more bytes than it has."""
    content = zipped({"a": bytes(1000)}, zipfile.ZIP_STORED)
    start, end = content.rindex(b"PK\x01\x02"), content.rindex(b"PK\x05\x06")
    entry_bytes = content[start:end]
    twice = entry_bytes + entry_bytes.replace(b"a", b"b", 1)
    tail = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 3, 3, end - content.index(b"PK\x01\x02") + len(entry_bytes),
                       content.index(b"PK\x01\x02"), 0)  # fmt: skip
    with pytest.raises(DataError, match=r"overlap|not an intact zip archive"):
        opened(tmp_path, content[:start] + twice + tail)


def test_the_number_and_the_size_of_files_are_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lower limits stand for archives that would take minutes to write."""
    monkeypatch.setattr(archives, "MOST_FILES", 7)  # FILES, and the folder that stands before them
    monkeypatch.setattr(archives, "MOST_BYTES", sum(map(len, FILES.values())))
    assert opened(tmp_path, tarred(FILES)) == FILES
    with pytest.raises(DataError, match="more than 7 files"):
        opened(tmp_path, tarred({**FILES, "one": b""}))
    monkeypatch.setattr(archives, "MOST_BYTES", archives.MOST_BYTES - 1)
    with pytest.raises(DataError, match="files are larger than"):
        opened(tmp_path, zipped(FILES))


def test_a_header_cannot_ask_for_more_memory_than_names_need(tmp_path: Path) -> None:
    content = tarred({}, tarfile.GNU_FORMAT, entry("a" * 200))
    place = content.index(b"././@LongLink")
    header = bytearray(content[place : place + 512])
    header[124:136] = b"00777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(DataError, match="header declares 134,217,727 bytes"):
        opened(tmp_path, content[:place] + bytes(header) + content[place + 512 :])


@pytest.mark.parametrize("form", ["stored.zip", "deflated.zip", "pax.tar", "gnu.tar", "a.tar.gz", "a.tar.zst"])
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1, exclude_max=True))
def test_an_archive_that_was_cut_off_anywhere_is_refused(
    tmp_path_factory: pytest.TempPathFactory, form: str, share: float
) -> None:
    whole = FORMS[form](FILES)
    # A tar archive ends in zeros; those behind the first block of them say nothing.
    needed = len(whole.rstrip(b"\0")) if form.endswith(".tar") else len(whole)
    with pytest.raises(DataError) as caught:
        opened(tmp_path_factory.mktemp("cut"), whole[: int(needed * share)])
    assert str(caught.value.where).startswith("shown")


@pytest.mark.parametrize("form", ["stored.zip", "deflated.zip", "pax.tar", "gnu.tar", "a.tar.gz", "a.tar.zst"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4))
def test_an_archive_with_changed_bytes_is_opened_within_its_folder_or_refused(
    tmp_path_factory: pytest.TempPathFactory, form: str, changes: list[tuple[float, int]]
) -> None:
    content = bytearray(FORMS[form](FILES))
    for share, change in changes:
        content[int(len(content) * share)] ^= change
    folder = tmp_path_factory.mktemp("changed")
    refusal = refused(lambda: opened(folder, bytes(content)))
    assert refusal is None or str(refusal.where).startswith("shown")
    assert {path.name for path in folder.iterdir()} <= {"archive", "into"}
