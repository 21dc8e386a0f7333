"""Which parts of a text are learnt from, steer, and measure."""

import numpy as np

from mlctl.data.splitting import sizes
from mlctl.data.text_staging import Span, StagedText
from mlctl.errors import DataError
from mlctl.recipe.prepare import SPLITS, SplitByFiles, SplitByShare
from mlctl.units import plural


def split_text(settings: SplitByShare | SplitByFiles, text: StagedText, context: int) -> dict[str, Span]:
    """The part of the text that every split is, in the order of SPLITS; contiguous, and cut between characters.

    Shares are of the text's characters. Where files are named for the splits but none for validation, the end of the
    train files is taken. Raises DataError where a split is too short for one window of `context` tokens even if every
    byte of it were one.
    """
    if isinstance(settings, SplitByShare):
        whole = text.spans.get(None, Span(0, 0))
        found = _shared(text, whole, {name: float(getattr(settings, name)) for name in SPLITS})
    else:
        found = {name: text.spans.get(name, Span(0, 0)) for name in SPLITS}
        if settings.files.validation is None:
            shares = {"train": 1 - settings.validation, "validation": settings.validation}
            found |= _shared(text, found["train"], shares)
    for name, span in found.items():
        if len(span) <= context:
            characters = plural(text.characters(span), "character")
            raise too_short(name, f"{characters}: at most {plural(len(span), 'token')}", context)
    return found


def too_short(split: str, has: str, context: int) -> DataError:
    """The refusal of a split that has not a single window."""
    return DataError(
        f"the {split} split has {has}, and one sample of {context} tokens needs {context + 1}",
        next="give a longer text or that split a larger share, or lower `context`",
    )


def _shared(text: StagedText, span: Span, shares: dict[str, float]) -> dict[str, Span]:
    counts = sizes(text.characters(span), np.array(list(shares.values())), np.zeros(len(shares)))
    cuts = [span.start, *(text.cut(span, int(count)) for count in np.cumsum(counts)[:-1]), span.stop]
    return {name: Span(start, stop) for name, start, stop in zip(shares, cuts, cuts[1:], strict=False)}
