"""Texts in place of tokens, for a language model: what shall be gone on with."""

from typing import TYPE_CHECKING, Final, Self

import numpy as np

from mlctl.errors import DataError, UsageError
from mlctl.runtime.answers import Arrays
from mlctl.serving.natural.texts import CHARACTERS_PER_TOKEN
from mlctl.serving.natural.unicode import require_unicode
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

if TYPE_CHECKING:
    from pathlib import Path

    from mlctl.data.token_text import TokenText

TASK: Final = "language-modeling"


class Prompts:
    """Texts for a model of tokens [B, T]: of a long one, as many tokens at its end as the model learnt to look back on.

    An empty text is read as `generate` reads an empty prompt.
    """

    def __init__(self, dtype: str, context: int, path: "Path") -> None:
        """Raises DataError for a file that is no tokenizer of `prepare`."""
        self._dtype = dtype
        self._context = context
        self._vocabulary = _opened(path)

    @classmethod
    def of(cls, signature: Signature) -> Self | None:
        """Those of the model; None for one that is no language model, or does not say what its texts are."""
        meaning = signature.meaning
        if meaning.task != TASK or meaning.tokenizer is None or len(signature.inputs) != len(meaning.inputs):
            return None
        match [(port.dtype, port.shape) for port in signature.inputs], [each.shape for each in meaning.inputs]:
            case [(dtype, (_, None))], [(context,)]:
                return cls(dtype, context, meaning.tokenizer)
        return None

    def inputs(self, text: str) -> Arrays:
        """The text's tokens, [1, T]. Raises Malformed for characters that the vocabulary lacks."""
        require_unicode(text)
        try:
            tokens = self._vocabulary.tokens(text[-self._context * CHARACTERS_PER_TOKEN :])
        except UsageError as error:
            raise Malformed(error.what) from error
        return (np.array([tokens[-self._context :] or [self._vocabulary.opening]], self._dtype),)

    def spelt(self, token: int) -> str | None:
        """The token's text, U+FFFD for a part of a character; None for one that the vocabulary lacks."""
        try:
            return self._vocabulary.bytes_of(token).decode(errors="replace")
        except IndexError:
            return None


def _opened(path: "Path") -> "TokenText":
    # The library takes tens of milliseconds to load, which models without text need not wait for.
    from mlctl.data.token_text import TokenText

    try:
        return TokenText(path)
    except Exception as error:  # the library raises nothing narrower
        what = f"this is no tokenizer of a language model: {error}"
        raise DataError(what, where=path, next="take the one that the model came with") from error
