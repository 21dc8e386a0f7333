"""The token that fills up shorter rows, as the model's own tokenizer has it."""

import re
from pathlib import Path
from typing import Any, Final

import orjson

from mlctl.errors import DataError

_NO_LETTERS: Final = re.compile(r"[\W\d_]+")
_LARGEST: Final = 2**31 - 1


def padding_token(tokenizer: Path) -> int:
    """The id with which a `tokenizer.json` pads, else that of its special token `[PAD]`, `<pad>` or alike, else 0.

    Raises DataError for a file that is no tokenizer's.
    """
    try:
        told = orjson.loads(tokenizer.read_bytes())
    except (OSError, ValueError) as error:
        raise _unusable(tokenizer, str(error)) from error
    match told:
        case {"padding": {"pad_id": found}}:
            pass
        case {"added_tokens": [*added]}:
            found = next((each["id"] for each in added if _is_padding(each)), 0)
        case dict():
            return 0
        case _:
            raise _unusable(tokenizer, "it holds no object")
    if not isinstance(found, int) or isinstance(found, bool) or not 0 <= found <= _LARGEST:
        raise _unusable(tokenizer, "the id of its padding is no token's")
    return found


def _is_padding(added: Any) -> bool:
    """Whether it is a special token that is called so; `<|image_pad|>` is another."""
    match added:
        case {"id": int(), "content": str(content), "special": True}:
            return _NO_LETTERS.sub("", content).lower() in ("pad", "padding")
    return False


def _unusable(tokenizer: Path, why: str) -> DataError:
    return DataError(
        f"this is no tokenizer that can be used: {why}", where=tokenizer, next="give the model's own tokenizer.json"
    )
