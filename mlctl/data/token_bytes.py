"""Tokens that are single bytes of UTF-8, and how the `tokenizers` library spells bytes."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mlctl.data.tokens import Tokens, tokenizer_json
from mlctl.digests import Json

_OWN: Final = (*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1))
_OTHERS: Final = tuple(sorted(set(range(256)) - set(_OWN)))
SPELLING: Final = "".join(chr(each if each in _OWN else 256 + _OTHERS.index(each)) for each in range(256))
"""The character by which a vocabulary names each byte, as GPT-2's does (Radford et al. 2019): a visible one of Latin-1
names its own number, the others are named by those from 256 on."""


class ByteVocabulary(Tokens):
    """Every byte is a token, which is its number."""

    @property
    def vocabulary(self) -> int:
        return 256

    def encoded(self, blocks: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        return (np.frombuffer(block, np.uint8) for block in blocks)

    def characters(self) -> NDArray[np.int32]:
        return characters_begun(SPELLING)

    def to_json(self) -> str:
        as_bytes: Json = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
        numbers = {each: number for number, each in enumerate(SPELLING)}
        return tokenizer_json(as_bytes, as_bytes, {"type": "BPE", "vocab": numbers, "merges": []})


def characters_begun(tokens: Iterable[str]) -> NDArray[np.int32]:
    """How many characters begin in each token, given as its bytes' spelling; bytes 0x80 to 0xBF begin none."""
    goes_on = frozenset(SPELLING[0x80:0xC0])
    return np.array([sum(each not in goes_on for each in token) for token in tokens], np.int32)
