"""Which token comes next: a draw from what a language model expects, narrowed as a person asks."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import StepFailed

Floats: TypeAlias = npt.NDArray[np.float64]
Logits: TypeAlias = npt.NDArray[Any]
"""A model's raw outputs for the next token, [V]."""


@dataclass(frozen=True)
class Sampling:
    """How a token is drawn: 0 is the temperature at which the likeliest one is always taken.

    Of the tokens that `top_k` leaves, `top_p` keeps the likeliest ones that together reach that probability (nucleus
    sampling, Holtzman et al. 2020); None leaves all.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None


def distribution(logits: Logits, sampling: Sampling, never: tuple[int, ...] = ()) -> Floats:
    """The probability of every token, [V] float64, adding up to 1; tokens in `never` have none.

    Of equally likely tokens the first are kept. Raises StepFailed for logits that are not finite.
    """
    scores = _scores(logits, never)
    order = np.argsort(-scores, kind="stable")[: 1 if sampling.temperature == 0 else sampling.top_k]
    with np.errstate(over="ignore"):  # far below the likeliest is as good as never
        ranked = (scores[order] - scores[order[0]]) / (sampling.temperature or 1.0)
    weights = np.exp(ranked)
    kept = weights / weights.sum()
    if sampling.top_p is not None:
        # A token stays while those before it do not reach the share yet; the first always stays.
        kept = kept[: np.searchsorted(np.cumsum(kept), sampling.top_p) + 1]
        kept = kept / kept.sum()
    found = np.zeros(len(scores))
    found[order[: len(kept)]] = kept
    return found


def _scores(logits: Logits, never: tuple[int, ...]) -> Floats:
    scores = np.array(logits, np.float64)
    if not np.isfinite(scores).all():
        raise StepFailed(
            "the model's answer is not a finite number",
            next="look at the step that made this model: its training, or the ranges of its quantization",
        )
    scores[list(never)] = -np.inf
    return scores


class Sampler:
    """Draws tokens; the same seed and the same logits give the same ones."""

    def __init__(self, sampling: Sampling, seed: int, never: tuple[int, ...] = ()) -> None:
        """Tokens in `never` are not drawn."""
        self._sampling = sampling
        self._never = never
        self._generator = np.random.Generator(np.random.PCG64(seed))

    def __call__(self, logits: Logits) -> int:
        """The next token after these logits [V]. Raises what `distribution` does."""
        shares = np.cumsum(distribution(logits, self._sampling, self._never))
        # Rounded sums may end below 1, and a draw of 1 - 1e-16 must find a token that has a share.
        return int(np.searchsorted(shares, self._generator.random() * shares[-1], side="right"))
