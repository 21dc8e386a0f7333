"""What a source string says."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlctl.data.locations import Location
from mlctl.errors import UsageError

DIGEST = "0123456789abcdef" * 4
COMMIT = "0123456789" * 4


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("data/a.csv", Location("file", "data/a.csv")),
        ("/data/*.csv.zst", Location("file", "/data/*.csv.zst")),
        ("a.zip", Location("file", "a.zip")),
        ("a.zip!*.csv", Location("file", "a.zip", "*.csv")),
        ("d/*.TAR.GZ!x/[!a]*.csv", Location("file", "d/*.TAR.GZ", "x/[!a]*.csv")),
        ("b.zip/a.tgz!x!y", Location("file", "b.zip/a.tgz", "x!y")),
        ("run[!a].csv", Location("file", "run[!a].csv")),
        ("who!.csv", Location("file", "who!.csv")),
        ("a.zip!", Location("file", "a.zip!")),
        (f"a.csv#sha256={DIGEST.upper()}", Location("file", "a.csv", None, DIGEST)),
        (f"a.tar.zst!b/*#SHA256={DIGEST}", Location("file", "a.tar.zst", "b/*", DIGEST)),
        (f"https://host/a.csv#sha256={DIGEST}", Location("https", "https://host/a.csv", None, DIGEST)),
        (f"http://127.0.0.1:8/get?x=1!**/*.csv#sha256={DIGEST}",
         Location("https", "http://127.0.0.1:8/get?x=1", "**/*.csv", DIGEST)),
        (f"hf://datasets/o/n@{COMMIT}/d/a.csv", Location("hf", f"hf://datasets/o/n@{COMMIT}/d/a.csv")),
        (f"hf://datasets/o/n@main/a.zip!*.csv#sha256={DIGEST}",
         Location("hf", "hf://datasets/o/n@main/a.zip", "*.csv", DIGEST)),
    ],
)  # fmt: skip
def test_a_location_is_taken_apart(text: str, expected: Location) -> None:
    assert Location.parse(text) == expected


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("https://host/a.csv", "needs its digest"),
        (f"https://host/a.csv#sha256={DIGEST[1:]}", "64 hexadecimal digits"),
        (f"https://host/a.csv#sha256={DIGEST[1:]}g", "64 hexadecimal digits"),
        (f"http://example.org/a.csv#sha256={DIGEST}", "http:// cannot be downloaded from"),
        ("https:///a.csv", "names no host"),
        ("ftp://host/a.csv", "this kind of address cannot be read"),
        ("s3://bucket/a.csv", "this kind of address cannot be read"),
        ("hf://datasets/owner/name@main/a.csv", "a branch or a tag"),
        ("hf://datasets/owner/a.csv", "names no file"),
        (f"*.csv#sha256={DIGEST}", "several files"),
        ("a.csv#sha256=", "64 hexadecimal digits"),
    ],
)
def test_what_cannot_be_is_a_usage_error_that_shows_the_text(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        Location.parse(text)
    assert caught.value.where is not None
    assert text.startswith(caught.value.where)


@pytest.mark.parametrize("text", ["https://me:secret@host/a.csv#sha256=12", "ftp://me:secret@host/a.csv"])
def test_a_password_is_not_repeated(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Location.parse(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"https://host/a/b%20c.csv.gz?d=e.zip#sha256={DIGEST}", "b c.csv.gz"),
        (f"https://host/get.php?file=e.zip#sha256={DIGEST}", "get.php"),
        (f"https://host/..%2f..%2fetc%2fpasswd.csv#sha256={DIGEST}", "etcpasswd.csv"),
        (f"hf://datasets/o/n@{COMMIT}/d/a.csv", "a.csv"),
    ],
)
def test_a_remote_file_has_a_plain_name(text: str, name: str) -> None:
    assert Location.parse(text).file_name == name


@given(st.text())
@example("https://[")
@example("hf://")
@example(f"https://host/\n#sha256={DIGEST}")
def test_any_text_is_a_location_or_refused(text: str) -> None:
    found = parsed(text)
    if isinstance(found, Location):
        assert "/" not in found.file_name
    else:
        assert found.where is None or found.where.isprintable()


def parsed(text: str) -> Location | UsageError:
    try:
        return Location.parse(text)
    except UsageError as error:
        return error
