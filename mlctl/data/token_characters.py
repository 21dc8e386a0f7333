"""Tokens that are single characters."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlctl.data.token_files import narrowest
from mlctl.data.tokens import Tokens, tokenizer_json

UNKNOWN: Final = "<unknown>"
CODE_POINTS: Final = 0x110000
"""How many Unicode has."""


class CharacterVocabulary(Tokens):
    """Every character that was learnt is a token, numbered in the order of code points.

    Where there is a token `<unknown>`, it is the last one, and stands for any other character.
    """

    def __init__(self, learnt: NDArray[np.bool_], *, has_unknown: bool) -> None:
        """`learnt` says of every code point whether it is a token, bool [CODE_POINTS]."""
        self._code_points = np.flatnonzero(learnt)
        self._has_unknown = has_unknown
        self._numbers = np.full(CODE_POINTS, self.vocabulary - 1, narrowest(self.vocabulary))
        self._numbers[self._code_points] = np.arange(len(self._code_points))

    @property
    def vocabulary(self) -> int:
        return len(self._code_points) + self._has_unknown

    def encoded(self, blocks: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        """As `Tokens` says. Without `<unknown>` the text must hold no character that was not learnt."""
        return (self._numbers[code_points(block)] for block in blocks)

    def characters(self) -> NDArray[np.int32]:
        return np.ones(self.vocabulary, np.int32)

    def to_json(self) -> str:
        words = [chr(each) for each in self._code_points] + [UNKNOWN] * self._has_unknown
        numbers = {word: number for number, word in enumerate(words)}
        return tokenizer_json(
            # Each character becomes a word of its own, which the model then looks up.
            {"type": "Split", "pattern": {"Regex": r"[\s\S]"}, "behavior": "Isolated", "invert": False},
            {"type": "Fuse"},
            {"type": "WordLevel", "vocab": numbers, "unk_token": UNKNOWN},
        )


def code_points(text: bytes) -> NDArray[Any]:
    """The code points of UTF-8 in whole characters, uint8 or uint32 [characters]."""
    if text.isascii():
        return np.frombuffer(text, np.uint8)
    return np.frombuffer(text.decode().encode("utf-32-le"), "<u4")


def seen_in(blocks: Iterable[bytes]) -> NDArray[np.bool_]:
    """Which code points a text has, bool [CODE_POINTS]."""
    seen = np.zeros(CODE_POINTS, np.bool_)
    for block in blocks:
        seen[code_points(block)] = True
    return seen
