"""The decoding loop, with models whose expectations can be read off."""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlctl.runtime.answers import Arrays
from mlctl.runtime.generation import Reader, WindowReader, generated
from mlctl.runtime.sampling import Logits

VOCABULARY = 1000


class Counting:
    """Expects one more than the sum of all tokens that it knows, and remembers what it was given to read."""

    def __init__(self, capacity: int | None) -> None:
        self.capacity = capacity
        self._seen: list[int] = []
        self.reads: list[list[int]] = []

    @property
    def known(self) -> int:
        return len(self._seen)

    def read(self, tokens: Sequence[int]) -> Logits:
        self.reads.append(list(tokens))
        self._seen += tokens
        assert self.capacity is None or len(self._seen) <= self.capacity
        return expecting(self._seen)

    def forget(self) -> None:
        self._seen = []


def expecting(seen: Sequence[int]) -> NDArray[np.float32]:
    found = np.zeros(VOCABULARY, np.float32)
    found[(sum(seen) + 1) % VOCABULARY] = 1
    return found


def answers(rows: Arrays) -> NDArray[Any]:
    """The same model over whole windows, [1, T] → [1, T, V]."""
    (tokens,) = rows
    assert tokens.dtype == np.int64
    return np.stack([[expecting(row[: place + 1].tolist()) for place in range(len(row))] for row in tokens])


def likeliest(logits: Logits) -> int:
    return int(np.argmax(logits))


def taken(reader: Reader, prompt: Sequence[int], count: int) -> list[int]:
    return list(islice(generated(reader, prompt, likeliest), count))


def test_every_token_is_read_once_while_there_is_room() -> None:
    reader = Counting(None)
    assert taken(reader, [1, 2], 4) == [4, 8, 16, 32]
    assert reader.reads == [[1, 2], [4], [8], [16]]


def test_when_the_context_is_full_its_last_half_is_read_again() -> None:
    reader = Counting(4)
    # 1 2 | 4 8 fill four places; the last two tokens of all are then read anew: 8 and 16 give 25.
    assert taken(reader, [1, 2], 6) == [4, 8, 16, 25, 50, 100]
    assert reader.reads == [[1, 2], [4], [8], [8, 16], [25], [50]]


def test_of_a_long_prompt_the_end_is_read() -> None:
    reader = Counting(3)
    taken(reader, [1, 2, 3, 4, 5], 2)
    assert reader.reads[0] == [3, 4, 5]


def test_what_was_read_before_is_forgotten_first() -> None:
    reader = Counting(None)
    assert taken(reader, [5], 1) == taken(reader, [5], 1) == [6]


@given(st.integers(1, 7), st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(1, 20))
def test_a_model_without_a_state_generates_the_same(capacity: int, prompt: list[int], count: int) -> None:
    assert taken(WindowReader(answers, capacity), prompt, count) == taken(Counting(capacity), prompt, count)


@pytest.mark.parametrize("count", [1, 5])
def test_no_token_is_read_that_nobody_asked_for(count: int) -> None:
    reader = Counting(None)
    taken(reader, [1], count)
    assert len(reader.reads) == count
