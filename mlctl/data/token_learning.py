"""The vocabulary that a recipe asks for, learnt from the train split."""

from collections.abc import Iterable, Mapping

import numpy as np

from mlctl.data.text_staging import Span, StagedText
from mlctl.data.token_bytes import ByteVocabulary
from mlctl.data.token_characters import UNKNOWN, CharacterVocabulary, code_points, seen_in
from mlctl.data.tokens import Tokens
from mlctl.errors import DataError
from mlctl.events import Tell, Warned
from mlctl.recipe.prepare import ByteTokens, CharacterTokens, PairTokens, TokenSettings
from mlctl.units import plural

SHOWN = 5


def learn(settings: TokenSettings, text: StagedText, spans: Mapping[str, Span], tell: Tell) -> Tokens:
    """What the text is cut into; `spans` are its splits.

    Tells where fewer tokens were found than asked for, and which characters the train split lacks. Raises DataError
    for a train split of one character over and over.
    """
    train = spans["train"]
    _require_variety(text.blocks(train))
    match settings:
        case CharacterTokens():
            others = (block for name, span in spans.items() if name != "train" for block in text.blocks(span))
            return _characters(text.blocks(train), others, tell)
        case ByteTokens():
            return ByteVocabulary()
        case PairTokens():
            # Here, for the library takes time to load, and only pairs need it.
            from mlctl.data.token_pairs import PairVocabulary

            found = PairVocabulary.learnt(text, train, settings.vocabulary)
            if found.vocabulary < settings.vocabulary:
                tell(Warned(f"the text gives {plural(found.vocabulary, 'token')}, not {settings.vocabulary:,}"))
            return found


def _characters(train: Iterable[bytes], others: Iterable[bytes], tell: Tell) -> Tokens:
    learnt = seen_in(train)
    lacking = [chr(each) for each in np.flatnonzero(seen_in(others) & ~learnt)]
    if lacking:
        shown = ", ".join(map(ascii, lacking[:SHOWN])) + (", …" if len(lacking) > SHOWN else "")
        what = f"the train split lacks {plural(len(lacking), 'character')} of the others"
        tell(Warned(f"{what}, which become the token {UNKNOWN}: {shown}"))
    return CharacterVocabulary(learnt, has_unknown=bool(lacking))


def _require_variety(blocks: Iterable[bytes]) -> None:
    first = None
    for block in blocks:
        points = code_points(block)
        first = points[0] if first is None else first
        if (points != first).any():
            return
    if first is not None:
        raise DataError(
            f"the train split is the character {chr(first)!a} over and over: nothing is to be predicted",
            next="give a text with at least two different characters",
        )
