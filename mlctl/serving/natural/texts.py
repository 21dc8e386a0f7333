"""Texts in place of tokens, for models that read a whole text, such as encoders of sentences."""

from typing import TYPE_CHECKING, Final, Self

import numpy as np

from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays
from mlctl.serving.natural.unicode import require_unicode
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

if TYPE_CHECKING:
    from pathlib import Path

    from tokenizers import Encoding, Tokenizer

IDS: Final = "input_ids"
MASK: Final = "attention_mask"
TYPES: Final = "token_type_ids"
MOST_TOKENS: Final = 512
"""Of a text, where the tokenizer has no limit of its own: what BERT and its kin read."""
CHARACTERS_PER_TOKEN: Final = 32
"""A text with more characters for each token that is read is cut before it is looked at: an English token has 4 or 5,
and what is cut off anyway shall cost nothing."""


class Texts:
    """Texts for a model of `input_ids`, alone or with `attention_mask` and `token_type_ids`, each [B, T].

    Texts are cut to the length that the tokenizer is set to, else to 512 tokens, and padded only where the graph takes
    one length alone.
    """

    def __init__(self, names: tuple[str, ...], dtypes: tuple[str, ...], length: int | None, path: "Path") -> None:
        """`length` is the T that the graph fixes, if it does. Raises DataError for a file that is no tokenizer."""
        self._ports = tuple(zip(names, dtypes, strict=True))
        self._tokenizer = _opened(path, length)
        truncation = self._tokenizer.truncation or {}
        self._most = int(truncation["max_length"])
        self._cuts_left = truncation["direction"] == "left"

    @classmethod
    def of(cls, signature: Signature) -> Self | None:
        """Those of the model; None for one that has no tokenizer, or takes something else beside tokens."""
        names = tuple(port.name for port in signature.inputs)
        path = signature.meaning.tokenizer
        if path is None or IDS not in names or not set(names) <= {IDS, MASK, TYPES}:
            return None
        lengths = {port.shape[1:] for port in signature.inputs}
        dtypes = tuple(port.dtype for port in signature.inputs)
        if len(lengths) != 1 or not set(dtypes) <= {"int32", "int64"}:
            return None
        match next(iter(lengths)):
            case (None,):
                return cls(names, dtypes, None, path)
            case (int(length),) if MASK in names:
                return cls(names, dtypes, length, path)
        return None

    def inputs(self, text: str) -> Arrays:
        """The text's tokens, [1, T] for every input. Raises Malformed for a text that is none."""
        require_unicode(text)
        longest = self._most * CHARACTERS_PER_TOKEN
        is_longer = len(text) > longest
        if is_longer:
            text = text[-longest:] if self._cuts_left else text[:longest]
        encoding = self._tokenizer.encode(text)
        if is_longer and sum(encoding.attention_mask) < self._most:
            raise Malformed(f"the text is too long: {longest} of its characters are fewer than {self._most} tokens")
        return tuple(np.array([_part(encoding, name)], dtype) for name, dtype in self._ports)


def _part(encoding: "Encoding", name: str) -> list[int]:
    parts = {IDS: encoding.ids, MASK: encoding.attention_mask, TYPES: encoding.type_ids}
    return parts[name]


def _opened(path: "Path", length: int | None) -> "Tokenizer":
    """The tokenizer, which cuts texts, and pads them to `length` where there is one."""
    # It takes tens of milliseconds to load, which models without text need not wait for.
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        own, padding = tokenizer.truncation or {}, tokenizer.padding or {}
        most = min(length or MOST_TOKENS, int(own.get("max_length", MOST_TOKENS)))
        tokenizer.enable_truncation(most, direction=own.get("direction", "right"))
        tokenizer.no_padding()
        if length is not None:
            tokenizer.enable_padding(
                length=length,
                direction=padding.get("direction", "right"),
                pad_id=padding.get("pad_id", 0),
                pad_type_id=padding.get("pad_type_id", 0),
                pad_token=padding.get("pad_token", "[PAD]"),
            )
        tokenizer.encode("a text, as a trial")
    except Exception as error:  # the library raises nothing narrower
        raise DataError(
            f"this is no tokenizer that can be used: {error}", where=path, next="give the model's own tokenizer.json"
        ) from error
    return tokenizer
