"""The file of tokens: what it keeps, what it refuses, and two who write it at once."""

import hashlib
import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import DataError, DiskFull, UsageError
from mlctl.serving.guards.tokens import MOST_BYTES, Scopes, create_token, parsed, read_tokens, revoke_token

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
A_TOKEN = {
    "name": "ci",
    "prefix": "mlctl_abcdef",
    "sha256": "0" * 64,
    "models": ["digits"],
    "is_admin": False,
    "rate": 2.5,
    "made": "2026-01-31T12:00:00+00:00",
    "expires": None,
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.json"


def test_a_token_is_256_random_bits_of_which_the_file_keeps_the_hash_alone(file: Path) -> None:
    text = create_token(file, "ci", Scopes(("digits",), rate=2.5), days=30)
    mark, _, rest = text.partition("_")
    assert (mark, len(rest)) == ("mlctl", 43)
    assert text not in file.read_text()
    assert rest[6:] not in file.read_text()
    [token] = read_tokens(file)
    assert token.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert (token.name, token.prefix, token.models, token.rate) == ("ci", text[:12], ("digits",), 2.5)
    assert token.expires is not None
    assert token.made < token.expires


def test_only_its_owner_may_read_the_file_whatever_the_mask_says(file: Path) -> None:
    before = os.umask(0)
    try:
        create_token(file, "ci", Scopes())
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_is_reached_by_a_link_stays_where_it_is(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    create_token(link, "ci", Scopes())
    assert link.is_symlink()
    assert [each.name for each in read_tokens(file)] == ["ci"]


def test_a_revoked_token_is_gone_and_the_others_stay(file: Path) -> None:
    for name in ("a", "b", "c"):
        create_token(file, name, Scopes())
    revoke_token(file, "b")
    assert [each.name for each in read_tokens(file)] == ["a", "c"]
    with pytest.raises(UsageError, match="there is no token of the name 'b'"):
        revoke_token(file, "b")


@pytest.mark.parametrize(
    ("name", "scopes", "message"),
    [
        ("", Scopes(), "no name for a token"),
        ("a b", Scopes(), "no name for a token"),
        ("a\x1b[31m", Scopes(), "no name for a token"),
        ("ci", Scopes(("../x",)), "no name of a model"),
        ("ci", Scopes(("a\n",)), "no name of a model"),
        ("ci", Scopes(("m",), is_admin=True), "reaches every model"),
        ("ci", Scopes(rate=0.0), "serves nobody"),
        ("ci", Scopes(rate=float("inf")), "serves nobody"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_written(file: Path, name: str, scopes: Scopes, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        create_token(file, name, scopes)
    assert not file.exists()


def test_a_name_is_given_once(file: Path) -> None:
    create_token(file, "ci", Scopes())
    before = file.read_bytes()
    with pytest.raises(UsageError, match="there is a token of the name 'ci'"):
        create_token(file, "ci", Scopes())
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"{}",
        b'{"mlctl": 2, "tokens": []}',
        b'{"mlctl": 1, "tokens": {}}',
        b'{"mlctl": 1, "tokens": [1]}',
        json.dumps({"mlctl": 1, "tokens": [A_TOKEN, A_TOKEN]}).encode(),
        b" " * (MOST_BYTES + 1),
    ],
)
def test_a_file_that_is_damaged_is_named_and_left_alone(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    for touch in (read_tokens, lambda path: create_token(path, "new", Scopes()), lambda path: revoke_token(path, "ci")):
        with pytest.raises(DataError, match="no file of tokens") as refused:
            touch(file)
        assert refused.value.where == str(file)
    assert file.read_bytes() == content


@given(st.sampled_from(sorted(A_TOKEN)), ANYTHING)
def test_a_token_with_any_other_value_is_read_or_refused_and_nothing_else(key: str, value: Any) -> None:
    content = json.dumps({"mlctl": 1, "tokens": [{**A_TOKEN, key: value}]}).encode()
    try:
        [token] = parsed(content, Path("tokens.json"))
    except DataError:
        return
    assert json.loads(json.dumps(getattr(token, key))) == value


def test_two_processes_that_make_and_revoke_at_once_lose_nothing(file: Path) -> None:
    code = """
import sys
from pathlib import Path
from mlctl.serving.guards.tokens import Scopes, create_token, revoke_token
file, who = Path(sys.argv[1]), sys.argv[2]
for number in range(20):
    create_token(file, f"{who}{number}", Scopes())
    if number % 2:
        revoke_token(file, f"{who}{number}")
"""
    processes = [subprocess.Popen([sys.executable, "-c", code, str(file), who]) for who in ("a", "b")]
    assert [process.wait(timeout=60) for process in processes] == [0, 0]
    assert sorted(each.name for each in read_tokens(file)) == sorted(
        f"{who}{n}" for who in "ab" for n in range(0, 20, 2)
    )
    assert sorted(path.name for path in file.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]


def test_a_disk_without_room_leaves_the_file_as_it_was(file: Path) -> None:
    create_token(file, "first", Scopes())
    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, hard))
    try:
        with pytest.raises(DiskFull):
            create_token(file, "second", Scopes())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert sorted(path.name for path in file.parent.iterdir()) == ["tokens.json", "tokens.json.lock"]
