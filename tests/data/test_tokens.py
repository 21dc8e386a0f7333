"""Text becomes tokens, the same as the `tokenizers` library makes with the file that is kept beside them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import PROSE, staged
from tokenizers import Tokenizer

from mlctl.data.token_bytes import SPELLING, ByteVocabulary, characters_begun
from mlctl.data.token_characters import CODE_POINTS, UNKNOWN, CharacterVocabulary, seen_in
from mlctl.data.token_pairs import MOST_WORD_CHARACTERS, PairVocabulary, pieces
from mlctl.data.tokens import Tokens

MIXED: Final = st.lists(
    # Everything that the pattern of words treats in a way of its own, and what libraries could disagree about.
    st.sampled_from([*"abzABZ059'_-.,!?()\"#\t\r\x0b\x0c\x1c\x85\xa0\u200b\u2028\u3000\ufeff"])
    | st.sampled_from([*"éßжΩ漢字。，」あア・ー한٣²½①\u0301\u0e33\U0001f600\U0001d7d8\u3099\u309b"])
    | st.sampled_from([" ", "\n", "'s", "'ll", " '", "  ", "\n\n", " \n ", "a ", "漢。"]),
    max_size=40,
).map("".join)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> PairVocabulary:
    text, whole = staged(tmp_path_factory.mktemp("pairs"), PROSE * 2 + "it's they'll 'twas  two  spaces\n\n\n")
    return PairVocabulary.learnt(text, whole, 600)


def library(tokens: Tokens) -> Tokenizer:
    return Tokenizer.from_str(tokens.to_json())


def words(found: Tokenizer, text: str) -> list[str]:
    """What the library cuts the text into before it looks for pairs."""
    return [word for word, _ in found.pre_tokenizer.pre_tokenize_str(text)]


def numbers(tokens: Tokens, *blocks: bytes) -> npt.NDArray[np.int64]:
    return np.concatenate([np.zeros(0, np.int64), *tokens.encoded(blocks)])


def in_blocks(text: str, size: int) -> Iterator[bytes]:
    return (text[start : start + size].encode() for start in range(0, len(text), size))


def characters_of(text: str, *, has_unknown: bool) -> CharacterVocabulary:
    return CharacterVocabulary(seen_in([text.encode()]), has_unknown=has_unknown)


@given(st.text(min_size=1), st.text(), st.integers(1, 7))
def test_characters_are_numbered_by_code_point_and_others_are_unknown(learnt: str, text: str, size: int) -> None:
    tokens = characters_of(learnt, has_unknown=True)
    order = sorted(set(learnt))
    assert tokens.vocabulary == len(order) + 1
    expected = [order.index(each) if each in order else len(order) for each in text]
    assert numbers(tokens, *in_blocks(text, size)).tolist() == expected
    found = library(tokens)
    assert found.encode(text).ids == expected
    assert found.decode(expected) == "".join(each if each in order else UNKNOWN for each in text)


@given(st.text(min_size=1))
def test_without_an_unknown_token_every_text_comes_back_and_no_other_can_be_read(text: str) -> None:
    tokens = characters_of(text, has_unknown=False)
    found = library(tokens)
    ids = numbers(tokens, text.encode()).tolist()
    assert found.get_vocab_size() == tokens.vocabulary == len(set(text))
    assert (found.encode(text).ids, found.decode(ids)) == (ids, text)
    foreign = next(chr(each) for each in range(33, CODE_POINTS) if chr(each) not in text)
    with pytest.raises(Exception, match="Missing \\[UNK\\] token"):
        found.encode(foreign)


def test_the_words_for_an_unknown_character_are_no_token_of_a_text() -> None:
    tokens = characters_of(UNKNOWN, has_unknown=True)
    assert library(tokens).encode(UNKNOWN).ids == numbers(tokens, UNKNOWN.encode()).tolist()


@given(st.text(), st.integers(1, 7))
def test_bytes_are_their_own_numbers(text: str, size: int) -> None:
    tokens = ByteVocabulary()
    ids = numbers(tokens, *in_blocks(text, size)).tolist()
    assert bytes(ids) == text.encode()
    found = library(tokens)
    assert (found.encode(text).ids, found.decode(ids)) == (ids, text)


def test_bytes_are_spelt_as_the_library_spells_them() -> None:
    assert len(set(SPELLING)) == 256
    text = "".join(map(chr, range(0x250))) + "漢\U0001f600"
    spelt = "".join(SPELLING[byte] for byte in text.encode())
    assert library(ByteVocabulary()).pre_tokenizer.pre_tokenize_str(text)[0][0] == spelt


@given(MIXED, st.integers(1, 9), st.integers(1, 5))
def test_pieces_and_blocks_change_no_token(pairs: PairVocabulary, text: str, size: int, least: int) -> None:
    found = library(pairs)
    cut = list(pieces(in_blocks(text, size), least))
    assert "".join(cut) == text
    assert [word for piece in cut for word in words(found, piece)] == words(found, text)
    whole = found.encode(text).ids
    assert numbers(pairs, *in_blocks(text, size)).tolist() == whole
    assert found.decode(whole) == text


@pytest.mark.parametrize(("end", "fewest"), [(" ", 100_000), ("\n", 100_000), ("。", 30_000)])
def test_the_library_agrees_about_every_character_that_a_cut_relies_on(
    pairs: PairVocabulary, end: str, fewest: int
) -> None:
    found = library(pairs)
    every = (chr(each) for each in range(0x30000) if not 0xD800 <= each < 0xE000)
    text = "".join(each + end for each in every)
    cut = list(pieces([text.encode()], 1))
    assert len(cut) > fewest
    assert [word for piece in cut for word in words(found, piece)] == words(found, text)


def test_a_text_is_cut_at_the_first_place_that_changes_nothing() -> None:
    assert list(pieces([b"one two  three\nfour"], 1)) == ["one", " two", "  three", "\nfour"]
    assert list(pieces(["上涨。 河水".encode()], 1)) == ["上涨", "。", " 河水"]
    assert list(pieces([b"one two  three\nfour"], 4)) == ["one two", "  three", "\nfour"]


def test_a_text_without_any_such_place_is_cut_all_the_same() -> None:
    assert list(pieces([b"abcdefg", b"hij kl"], 2, 4)) == ["abcd", "efgh", "ij", " kl"]
    assert list(pieces([b"abcdefghij kl"], 2, 4)) == ["abcd", "efgh", "ij", " kl"]


@given(MIXED)
def test_the_characters_of_tokens_are_those_of_the_text(pairs: PairVocabulary, text: str) -> None:
    for tokens in (pairs, ByteVocabulary(), characters_of(PROSE, has_unknown=True)):
        counts = tokens.characters()
        assert (counts.dtype.name, len(counts)) == ("int32", tokens.vocabulary)
        assert counts[numbers(tokens, text.encode())].sum() == len(text)


def test_a_part_of_a_character_counts_where_it_begins() -> None:
    spelt = "".join(SPELLING[byte] for byte in "é漢".encode())
    assert characters_begun([spelt[:1], spelt[1:2], spelt, spelt[2:4]]).tolist() == [1, 0, 2, 1]


def test_frequent_pairs_become_tokens(pairs: PairVocabulary) -> None:
    vocabulary = library(pairs).get_vocab()
    assert len(vocabulary) == pairs.vocabulary == 600
    assert set(SPELLING) < set(vocabulary)
    assert "Ġriver" in vocabulary
    assert len(library(pairs).encode("\nOn day 7 the river rose by 7 inches;").ids) < 14


def test_a_short_text_gives_fewer_tokens_than_asked_for(tmp_path: Path) -> None:
    text, whole = staged(tmp_path, "low lower lowest low lower lowest\n")
    found = PairVocabulary.learnt(text, whole, 5000)
    assert 256 < found.vocabulary < 270
    assert "Ġlower" in library(found).get_vocab()


def test_a_large_text_is_learnt_from_in_parts_spread_over_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlctl.data.token_pairs.SAMPLE_BYTES", 1 << 15)
    monkeypatch.setattr("mlctl.data.token_pairs.WINDOW_BYTES", 1 << 12)
    lines = [f"{word} {word} {word}\n" * 400 for word in ("early", "middle", "final")]
    text, whole = staged(tmp_path, "".join(lines))
    words = library(PairVocabulary.learnt(text, whole, 300)).get_vocab()
    assert {"Ġearly", "Ġmiddle", "Ġfinal"} <= set(words)


def test_what_is_learnt_from_ends_where_memory_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MOST_WORD_CHARACTERS * 120 < 1 << 29  # bytes that the library took for a character of a word that is new
    monkeypatch.setattr("mlctl.data.token_pairs.MOST_WORD_CHARACTERS", 8000)
    head = "".join(f"word{number} " for number in range(3000)) + "\n"
    text, whole = staged(tmp_path, head + "tail tail tail\n" * 4000)
    assert "Ġtail" not in library(PairVocabulary.learnt(text, whole, 2000)).get_vocab()


SCRIPT = """
import sys
from pathlib import Path
from texts import PROSE, staged
from mlctl.data.token_pairs import PairVocabulary
text, whole = staged(Path(sys.argv[1]), PROSE * 5)
found = PairVocabulary.learnt(text, whole, 700)
print(found.to_json(), [part.tolist() for part in found.encoded(text.blocks(whole))])
"""


@pytest.mark.parametrize("environment", [{"RAYON_NUM_THREADS": "7"}, {"TOKENIZERS_PARALLELISM": "false"}])
def test_the_core_count_changes_nothing(tmp_path: Path, environment: dict[str, str]) -> None:
    text, whole = staged(tmp_path, PROSE * 5)
    here = PairVocabulary.learnt(text, whole, 700)
    expected = f"{here.to_json()} {[part.tolist() for part in here.encoded(text.blocks(whole))]}\n"
    (tmp_path / "there").mkdir()
    there = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path / "there")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    assert there.stdout == expected
    assert json.loads(here.to_json())["model"]["type"] == "BPE"
