"""What every way to cut text into tokens offers."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mlctl.digests import Json


class Tokens(Protocol):
    """A vocabulary, and how text becomes numbers of its tokens."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; they are numbered from 0."""
        ...

    def encoded(self, blocks: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        """The tokens of a text, in parts of any length: [n] uint8, uint16 or uint32, the narrowest that holds all.

        `blocks` are the text's UTF-8, each of whole characters. How the text is cut into blocks changes nothing.
        """
        ...

    def characters(self) -> NDArray[np.int32]:
        """How many characters begin in each token, [vocabulary]; those of a text's tokens add up to the text's."""
        ...

    def to_json(self) -> str:
        """A `tokenizer.json` from which the `tokenizers` library makes the same tokens of the same text."""
        ...


def tokenizer_json(pre_tokenizer: Json, decoder: Json, model: Mapping[str, Json]) -> str:
    """A `tokenizer.json` that neither changes text before it is cut nor adds to its tokens."""
    described = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": None,
        "decoder": decoder,
        "model": model,
    }
    return json.dumps(described, indent=2, ensure_ascii=False)
