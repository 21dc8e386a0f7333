"""Compressed files as streams."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.data.compressed import codec_of, opened, without_codec
from mlctl.errors import DataError


def zstd(content: bytes) -> bytes:
    packed: bytes = pa.Codec("zstd").compress(content, asbytes=True)
    return packed


PACKERS: dict[str, Callable[[bytes], bytes]] = {"": bytes, ".gz": gzip.compress, ".zst": zstd}


@given(
    parts=st.lists(st.binary(max_size=300), max_size=3),
    suffix=st.sampled_from(list(PACKERS)),
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=3),
)
def test_reads_of_any_size_give_the_content_and_are_short_only_at_the_end(
    tmp_path_factory: pytest.TempPathFactory, parts: list[bytes], suffix: str, sizes: list[int]
) -> None:
    """Several streams in a row are one, as the command line's tools join them."""
    path = tmp_path_factory.mktemp("streams") / f"a.txt{suffix}"
    path.write_bytes(b"".join(map(PACKERS[suffix], parts)))
    found: list[bytes] = []
    with opened(path, "a") as stream:
        while chunk := stream.read(sizes[len(found) % len(sizes)]):
            found.append(chunk)
        assert stream.position == path.stat().st_size
    assert b"".join(found) == b"".join(parts)
    assert [len(chunk) for chunk in found[:-1]] == [sizes[place % len(sizes)] for place in range(len(found))][:-1]


CONTENT = bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.gz", gzip.compress(CONTENT, mtime=0)[:-9], "the gzip stream breaks off before its end"),
        ("a.gz", CONTENT, "not intact gzip"),
        ("a.gz", gzip.compress(CONTENT, mtime=0)[:-8] + b"12345678", "not intact gzip"),
        ("a.ZST", zstd(CONTENT)[:-9], "the zstd stream breaks off before its end"),
        ("a.zst", zstd(CONTENT)[:2], "the zstd stream breaks off before its end"),
        ("a.zst", CONTENT, "not intact zstd"),
        ("a.zst", zstd(CONTENT) + b"more", "not intact zstd"),
    ],
)
def test_a_damaged_stream_is_named(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    with opened(tmp_path / name, "shown") as stream, pytest.raises(DataError, match=what) as caught:
        stream.read(1 << 20)
    assert caught.value.where == "shown"


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_what_cannot_be_opened_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="the file cannot be read") as caught, opened(tmp_path / name, "shown"):
        pass
    assert caught.value.where == "shown"


def test_the_end_of_a_name_says_how_a_file_is_compressed() -> None:
    assert [codec_of(name) for name in ("a.csv.GZ", "a.zst", "a.gz.csv")] == ["gzip", "zstd", None]
    assert [without_codec(name) for name in ("A.csv.GZ", "a.tsv.zst", "a.gz.csv")] == ["a.csv", "a.tsv", "a.gz.csv"]
