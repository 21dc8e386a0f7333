"""Text to tokens and back, as `tokenizer.json` says."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.data.token_bytes import ByteVocabulary
from mlctl.data.token_characters import CODE_POINTS, CharacterVocabulary
from mlctl.data.token_text import TextStream, TokenText
from mlctl.data.tokens import Tokens
from mlctl.errors import UsageError


def opened(folder: Path, tokens: Tokens) -> TokenText:
    (folder / "tokenizer.json").write_text(tokens.to_json(), encoding="utf-8")
    return TokenText.open(folder)


def characters(text: str, *, has_unknown: bool = False) -> CharacterVocabulary:
    learnt = np.zeros(CODE_POINTS, np.bool_)
    learnt[[ord(each) for each in text]] = True
    return CharacterVocabulary(learnt, has_unknown=has_unknown)


@pytest.fixture(scope="module")
def of_bytes(tmp_path_factory: pytest.TempPathFactory) -> TokenText:
    return opened(tmp_path_factory.mktemp("bytes"), ByteVocabulary())


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


@given(texts)
def test_bytes_come_back_as_the_text_that_they_were(of_bytes: TokenText, text: str) -> None:
    numbers, stream = of_bytes.tokens(text), TextStream(of_bytes)
    assert numbers == list(text.encode())
    assert "".join(stream.after(number) for number in numbers) == text
    assert of_bytes.lacking(text) == ""


@given(texts, st.integers(0, 40))
def test_no_character_comes_before_it_is_whole(of_bytes: TokenText, text: str, count: int) -> None:
    stream = TextStream(of_bytes)
    given = "".join(stream.after(number) for number in list(text.encode())[:count])
    assert given == text.encode()[:count].decode(errors="ignore")


@given(st.lists(st.integers(0, 255), max_size=20))
def test_bytes_that_are_no_text_are_replaced(of_bytes: TokenText, numbers: list[int]) -> None:
    stream = TextStream(of_bytes)
    given = "".join(stream.after(number) for number in numbers)
    # What may still become a character is kept back, at most three bytes of it.
    assert bytes(numbers).decode(errors="replace").startswith(given)
    assert len(bytes(numbers).decode(errors="replace")) - len(given) <= 3


def test_characters_are_numbered_as_the_vocabulary_does(tmp_path: Path) -> None:
    text = opened(tmp_path, characters("abé\n"))
    numbers, stream = text.tokens("é\nab"), TextStream(text)
    assert numbers == [3, 0, 1, 2]
    assert [stream.after(number) for number in numbers] == ["é", "\n", "a", "b"]


def test_characters_that_were_not_learnt_are_named(tmp_path: Path) -> None:
    text = opened(tmp_path, characters("ab"))
    assert text.unknown is None
    with pytest.raises(UsageError, match="the vocabulary has no 'x', '\\\\u65e5'; the text") as refusal:
        text.tokens("axb日x")
    assert "prompt" in refusal.value.next
    with pytest.raises(UsageError, match=" and 3 more;"):
        text.tokens("cdefghijklm")


def test_or_read_as_the_unknown_one(tmp_path: Path) -> None:
    text = opened(tmp_path, characters("ab", has_unknown=True))
    assert (text.tokens("axb"), text.unknown, text.lacking("xaxy")) == ([0, 2, 1], 2, "xy")


@pytest.mark.parametrize(("learnt", "opening"), [("a\n b", 0), ("a b", 0), ("ab", 0), ("\tb c", 1), ("\t\n", 1)])
def test_a_text_opens_with_a_line_feed_or_a_space_or_the_first_token(learnt: str, opening: int, tmp_path: Path) -> None:
    assert opened(tmp_path, characters(learnt)).opening == opening
