"""Tokens that are frequent sequences of bytes: byte-pair encoding (Sennrich et al. 2016), by the `tokenizers` library.

Text is first cut into words by GPT-2's pattern (Radford et al. 2019); pairs are merged within a word only. The library
takes texts that are held in memory whole and gives 100 bytes and more for each token, so a large text is given to it in
pieces. A piece ends only where a word ends whatever stands on either side, so that the words, and with them the tokens,
are those of the whole text. The pattern's words are runs of letters, of numbers or of other visible characters, each
with at most one space before it; endings such as 's; and runs of white space, which leave their last character to
what follows if that is visible. So:

- between a visible character and a space or line feed, no word goes on: white space stands only at a word's beginning.
  The word on the left ends there at the latest, and no rule looks beyond that: the one which does, for white space,
  looks at what follows white space. The word on the right begins there, and no rule looks back;
- between a letter and a punctuation mark, likewise: no run holds both.

Where a text has no such place for 1 MiB, it is cut all the same.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from mlctl.data.text_staging import Span, StagedText
from mlctl.data.token_bytes import characters_begun
from mlctl.data.token_files import narrowest
from mlctl.data.tokens import Tokens

PIECE: Final = 4096
"""Characters of a piece, at least; four times as many took a third longer to encode."""
PIECES_AT_ONCE: Final = 512
LONGEST_PIECE: Final = 1 << 20

SAMPLE_BYTES: Final = 32 << 20
"""Text to learn from; of a longer one, so much in windows that are spread evenly."""
WINDOW_BYTES: Final = 1 << 16
STRIDE: Final = 317
"""Windows from one to the next one taken, so that the first ones alone are spread evenly too; the golden ratio's."""
MOST_WORD_CHARACTERS: Final = 4 << 20
"""Characters of different words to learn from: the library needs some hundred bytes for each while it learns."""
LEAST_COUNT: Final = 2
"""How often a pair must occur to be merged."""

_STOPS: Final = "。，、；：？！」』）"
_BORDER: Final = re.compile(
    rf"(?<=[\w!-~{_STOPS}])[ \n]"
    # Letters and marks that have been such since Unicode 3, so that no library's tables differ about them.
    rf"|(?<=[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3])[{_STOPS}]"
)
_WORD: Final = re.compile(r"\w+")


class PairVocabulary(Tokens):
    """The 256 bytes, and what was merged of them."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def learnt(cls, text: StagedText, span: Span, vocabulary: int) -> "PairVocabulary":
        """The vocabulary of at most so many tokens that the span's text gives; the same whatever the core count."""
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            min_frequency=LEAST_COUNT,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(_until_varied(_sample(text, span)), trainer)
        return cls(tokenizer)

    @property
    def vocabulary(self) -> int:
        found: int = self._tokenizer.get_vocab_size()
        return found

    def encoded(self, blocks: Iterable[bytes]) -> Iterator[NDArray[Any]]:
        dtype = narrowest(self.vocabulary)
        remaining = pieces(blocks)
        while some := list(islice(remaining, PIECES_AT_ONCE)):
            for each in self._tokenizer.encode_batch_fast(some, add_special_tokens=False):
                yield np.array(each.ids, dtype)

    def characters(self) -> NDArray[np.int32]:
        return characters_begun(str(self._tokenizer.id_to_token(number)) for number in range(self.vocabulary))

    def to_json(self) -> str:
        return str(self._tokenizer.to_str(pretty=True))


def pieces(blocks: Iterable[bytes], least: int = PIECE, most: int = LONGEST_PIECE) -> Iterator[str]:
    """A text in pieces of at least `least` characters whose tokens are, one after the other, those of the whole text.

    `blocks` are its UTF-8, each of whole characters. A piece of `most` characters without an end ends there.
    """
    text = ""
    for block in blocks:
        text += block.decode()
        start = 0
        while (border := _BORDER.search(text, start + least)) or len(text) - start >= most:
            stop = min(border.start() if border else len(text), start + most)
            yield text[start:stop]
            start = stop
        text = text[start:]
    if text:
        yield text


def _sample(text: StagedText, span: Span) -> Iterator[str]:
    """What is learnt from: all of a span, or windows of a large one, whose ends may cut a word."""
    windows = SAMPLE_BYTES // WINDOW_BYTES
    if len(span) <= SAMPLE_BYTES:
        yield from pieces(text.blocks(span))
        return
    for number in range(windows):
        start = span.start + len(span) * (number * STRIDE % windows) // windows
        yield from pieces(text.blocks(Span(start, start + WINDOW_BYTES)))


def _until_varied(texts: Iterable[str]) -> Iterator[str]:
    """The texts until they hold as many different words as there is memory to learn from."""
    seen: set[str] = set()
    characters = 0
    for text in texts:
        yield text
        new = set(_WORD.findall(text)) - seen
        seen |= new
        characters += sum(map(len, new))
        if characters > MOST_WORD_CHARACTERS:
            return
