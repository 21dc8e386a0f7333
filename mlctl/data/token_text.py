"""Between text and tokens, as `tokenizer.json` says: for prompts, and for what is generated."""

import codecs
import json
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from mlctl.data.token_bytes import SPELLING
from mlctl.data.token_files import TOKENIZER_FILE
from mlctl.errors import UsageError

SHOWN: Final = 8


class TokenText:
    """What text a vocabulary's tokens stand for."""

    def __init__(self, path: Path) -> None:
        """Read a `tokenizer.json` that prepare wrote."""
        content = path.read_text(encoding="utf-8")
        described = json.loads(content)
        self._tokenizer = Tokenizer.from_str(content)
        self._spells_bytes = described["decoder"]["type"] == "ByteLevel"
        unknown = described["model"].get("unk_token")
        self._numbers: dict[str, int] = self._tokenizer.get_vocab()
        self.unknown: int | None = self._numbers.get(unknown) if unknown else None
        """The token that stands for characters that the vocabulary lacks, where there is one."""
        names = {number: name for name, number in self._numbers.items()}
        self._bytes = tuple(self._spelt(names[number]) for number in range(len(names)))

    @classmethod
    def open(cls, folder: Path) -> "TokenText":
        """That of the prepared data in `folder`."""
        return cls(folder / TOKENIZER_FILE)

    def tokens(self, text: str) -> list[int]:
        """The tokens of `text`. Raises UsageError where a character has none, and no token stands for such."""
        lacking = self.lacking(text)
        if lacking and self.unknown is None:
            raise UsageError(
                f"the vocabulary has no {listed(lacking)}; the text that was learnt from lacks it",
                next="leave such characters out of the prompt",
            )
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def lacking(self, text: str) -> str:
        """The characters of `text` that the vocabulary lacks, each once, in order."""
        return "" if self._spells_bytes else "".join(each for each in dict.fromkeys(text) if each not in self._numbers)

    def bytes_of(self, token: int) -> bytes:
        """The UTF-8 that the token stands for, perhaps a part of a character."""
        return self._bytes[token]

    @property
    def opening(self) -> int:
        """What an empty prompt is read as: a line feed, else a space, else the first token."""
        return next((self._bytes.index(each) for each in (b"\n", b" ") if each in self._bytes), 0)

    def _spelt(self, name: str) -> bytes:
        return bytes(_BYTES[each] for each in name) if self._spells_bytes else name.encode()


class TextStream:
    """Text from tokens as they come: a character is given when its last byte is there, what is none as U+FFFD."""

    def __init__(self, text: TokenText) -> None:
        self._text = text
        self._decoder: Any = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def after(self, token: int) -> str:
        """The whole characters that the next token brings; often one, and sometimes none."""
        found: str = self._decoder.decode(self._text.bytes_of(token))
        return found


_BYTES: Final = {name: number for number, name in enumerate(SPELLING)}


def listed(characters: str) -> str:
    """The characters in a message: `'a', '\\xe9'`."""
    shown = ", ".join(ascii(each) for each in characters[:SHOWN])
    return f"{shown} and {len(characters) - SHOWN} more" if len(characters) > SHOWN else shown
