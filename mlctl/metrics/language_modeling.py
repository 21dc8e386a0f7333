"""Figures of a language model's answers, window by window.

Shapes: N windows, T tokens, V vocabulary, R resamples. Of a window's logits only four sums are kept, its totals float64
[N, 4]: nats of the cross entropy, right answers, tokens, and characters that begin in them. Every figure is a ratio of
sums over all windows; windows, and not tokens, are drawn again, for a window's tokens depend on each other.
"""

import math
from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Logits: TypeAlias = npt.NDArray[np.floating[Any]]
Tokens: TypeAlias = npt.NDArray[np.integer[Any]]
Resampler: TypeAlias = Callable[[Integers], Floats]

NATS, RIGHT, TOKENS, CHARACTERS = range(4)
TOTALS: Final = 4

LANGUAGE_MODELING_FIGURES: Final = ("bits_per_character", "perplexity", "loss", "accuracy")

_CHUNK_NUMBERS: Final = 1 << 20
"""Logits that are looked at together: their copies stay within a processor's cache."""


def window_totals(logits: Logits, targets: Tokens, characters: Tokens) -> Floats:
    """The totals of windows, float64 [B, 4], from finite logits [B, T, V] and the tokens that come next [B, T].

    `characters` says how many begin in each token, [V]. The answer to a place is its largest logit, the first of
    equals. Exponentials are taken in float32, of differences to the largest logit: that and their sum err by a few
    units of 6e-8, and so does the loss of a token, while a graph's logits differ from its model's by 1e-5.
    """
    batch, length, width = logits.shape
    flat, wanted = logits.reshape(-1, width), targets.reshape(-1).astype(np.int64)
    nats, is_right = np.empty(len(wanted)), np.empty(len(wanted), np.bool_)
    size = max(1, _CHUNK_NUMBERS // width)
    for start in range(0, len(wanted), size):
        chosen = slice(start, start + size)
        nats[chosen], is_right[chosen] = _answered(flat[chosen].astype(np.float32, copy=False), wanted[chosen])
    totals = np.empty((batch, TOTALS))
    totals[:, NATS] = nats.reshape(batch, length).sum(axis=1)
    totals[:, RIGHT] = is_right.reshape(batch, length).sum(axis=1)
    totals[:, TOKENS] = length
    totals[:, CHARACTERS] = characters_of(targets, characters)
    return totals


def characters_of(tokens: Tokens, characters: Tokens) -> Integers:
    """How many characters begin in the tokens [B, T] of each window, int64 [B]; `characters` [V] is that of a token."""
    return np.asarray(characters[tokens].sum(axis=1, dtype=np.int64))


def language_modeling_figure(name: str, totals: Floats) -> float:
    """The figure `name` of windows with these totals [N, 4]: bits_per_character, perplexity, loss (nats of a token) or
    accuracy. Raises ValueError for another name.
    """
    return float(_figure(name, totals.sum(axis=0)[None])[0])


def language_modeling_resampler(name: str, totals: Floats) -> Resampler:
    """A function that gives `language_modeling_figure` of resamples: int64 [R, N] numbers of windows to float64 [R].

    Raises ValueError for another name.
    """
    _require_known(name)
    columns = tuple(np.ascontiguousarray(totals[:, each]) for each in range(TOTALS))
    return lambda indices: _figure(name, np.stack([each[indices].sum(axis=1) for each in columns], axis=1))


def _answered(logits: npt.NDArray[np.float32], targets: Integers) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Cross entropy in nats and whether the largest logit is the target's, [n] each, from [n, V] and [n]."""
    rows = np.arange(len(targets))
    largest = logits.argmax(axis=1)
    tops = logits[rows, largest]
    sums = np.exp(logits - tops[:, None]).sum(axis=1)
    # Differences of float32 numbers are exact in float64, and those of large losses are what rounding would spoil.
    nats = np.log(sums.astype(np.float64)) + (tops.astype(np.float64) - logits[rows, targets])
    return nats, largest == targets


def _figure(name: str, sums: Floats) -> Floats:
    """The figure of every row of sums [R, 4], float64 [R]."""
    _require_known(name)
    if name == "accuracy":
        return np.asarray(sums[:, RIGHT] / sums[:, TOKENS])
    if name == "bits_per_character":
        return np.asarray(sums[:, NATS] / math.log(2) / sums[:, CHARACTERS])
    loss = sums[:, NATS] / sums[:, TOKENS]
    return np.asarray(np.exp(loss) if name == "perplexity" else loss)


def _require_known(name: str) -> None:
    if name not in LANGUAGE_MODELING_FIGURES:
        raise ValueError(f"{name!r} is not one of {', '.join(LANGUAGE_MODELING_FIGURES)}")
