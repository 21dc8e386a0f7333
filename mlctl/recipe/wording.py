"""How problems in a recipe are worded."""

import re
from collections.abc import Iterable, Sequence

SHOWN_CHARACTERS = 60
LISTED_WORDS = 20
SUGGESTION_CHOICES = 200  # difflib compares with every choice; more would let a hostile recipe take minutes

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.-]{1,80}")


def shown(text: str) -> str:
    """The text, cut to what fits on a line, without control characters."""
    cut = text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
    return cut if cut.isprintable() else repr(cut)[1:-1]


def value_text(value: object) -> str:
    """A value as its problem names it: `'int8'`, `3`, `true`, `null`, `a list`."""
    if isinstance(value, str):
        return f"'{shown(value)}'"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return shown(str(value))
    return "a list" if isinstance(value, tuple | list) else "keys with values"


def found(value: object) -> str:
    """A value with its kind: `the text '3'`, `the number 3`, `true`, `nothing`, `a list`."""
    if isinstance(value, str):
        return f"the text {value_text(value)}"
    if value is None:
        return "nothing"
    kind = "the number " if isinstance(value, int | float) and not isinstance(value, bool) else ""
    return kind + value_text(value)


def path_text(path: Iterable[str | int]) -> str:
    """`train.optimizer.lr`; a key that could be mistaken for something else stands in quotes."""
    return ".".join(_key_text(key) for key in path)


def _key_text(key: str | int) -> str:
    text = str(key)
    return text if _PLAIN_KEY.fullmatch(text) else f"'{shown(text)}'"


def listed(words: Iterable[object]) -> str:
    """The words with commas: `static, dynamic, qat`; of many, the first twenty."""
    every = tuple(words)
    first = ", ".join(shown(str(word)) for word in every[:LISTED_WORDS])
    return first if len(every) <= LISTED_WORDS else f"{first} and {len(every) - LISTED_WORDS:,} more"


def closest(word: object, choices: Sequence[object]) -> str | None:
    """The choice that `word` probably means, or None."""
    if not isinstance(word, str) or len(word) > SHOWN_CHARACTERS or len(choices) > SUGGESTION_CHOICES:
        return None
    from difflib import get_close_matches

    matches = get_close_matches(word.lower(), [str(choice) for choice in choices], n=1, cutoff=0.6)
    return matches[0] if matches else None


def did_you_mean(word: object, choices: Sequence[object]) -> str:
    """`; did you mean 'lr'?`, or nothing where no choice is close."""
    meant = closest(word, choices)
    return f"; did you mean '{shown(meant)}'?" if meant else ""
