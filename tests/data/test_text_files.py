"""Text files become blocks of UTF-8, or say where they are none."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.data.origin import Origin
from mlctl.data.text_files import text_blocks, whole_characters
from mlctl.errors import DataError

TEXT = "plain, é, 漢, 🜚 and\r\n\x00 more\n"


def read(path: Path, block_bytes: int = 1 << 20) -> bytes:
    return b"".join(block for block, _ in text_blocks(Origin(path), block_bytes))


@given(text=st.text(), block_bytes=st.integers(1, 9))
def test_blocks_hold_whole_characters_and_add_up_to_the_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, block_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("text") / "t.txt"
    path.write_bytes(b"x" + text.encode())  # so that no byte order mark is at the beginning
    blocks = [block.decode() for block, _ in text_blocks(Origin(path), block_bytes)]
    assert "".join(blocks) == "x" + text
    assert all(blocks)


@given(st.text(min_size=1))
def test_a_character_that_is_cut_off_is_left_out(text: str) -> None:
    encoded = text.encode()
    assert whole_characters(encoded) == len(encoded)
    for cut in range(1, len(text[-1].encode())):
        assert whole_characters(encoded[:-cut]) == len(text[:-1].encode())


@pytest.mark.parametrize("suffix", [".txt", ".txt.gz", ".txt.zst", ".md", ""])
def test_compressed_or_not_the_text_is_the_same(tmp_path: Path, suffix: str) -> None:
    raw = TEXT.encode()
    compressed = {".txt.gz": gzip.compress, ".txt.zst": lambda text: pa.compress(text, "zstd", asbytes=True)}
    path = tmp_path / f"t{suffix}"
    path.write_bytes(compressed.get(suffix, bytes)(raw))
    assert read(path, 5) == raw
    assert [position for _, position in text_blocks(Origin(path))][-1] == path.stat().st_size


def test_a_byte_order_mark_is_left_out_at_the_beginning_alone(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffone\ufefftwo".encode())
    assert read(path, 3).decode() == "one\ufefftwo"


@pytest.mark.parametrize("block_bytes", [4, 7, 1 << 20])
def test_what_is_not_utf8_is_named_by_line_and_byte(tmp_path: Path, block_bytes: int) -> None:
    path = tmp_path / "latin.txt"
    path.write_bytes("one\ntwo é\nthree ".encode() + b"caf\xe9 au lait\n")
    with pytest.raises(DataError) as caught:
        read(path, block_bytes)
    assert caught.value.exit_code == 3
    assert caught.value.where == f"{path}:3"
    assert caught.value.what == "the text is not UTF-8 (byte 0xe9 at offset 20)"


def test_a_character_that_the_end_cuts_off_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("one\n漢".encode()[:-1])
    with pytest.raises(DataError, match="byte 0xe6 at offset 4") as caught:
        read(path)
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf16_is_recognized_where_it_says_so(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "t.txt"
    path.write_bytes("\ufeffé".encode(encoding))
    with pytest.raises(DataError, match="it looks like UTF-16"):
        read(path)


def test_damage_is_named_by_what_the_recipe_calls_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.txt.gz"
    path.write_bytes(gzip.compress(TEXT.encode() * 100)[:-20])
    with pytest.raises(DataError, match="breaks off before its end") as caught:
        list(text_blocks(Origin(path, alias="https://host/t.txt.gz")))
    assert caught.value.where == "https://host/t.txt.gz"
