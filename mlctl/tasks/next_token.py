"""What a language model learns by."""

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective

# B batch, T tokens, V vocabulary


class NextToken(Objective):
    """Mean cross entropy of the token that comes next, in nats; watches it, bits per character and the accuracy.

    Labels are smoothed only in what is learnt by. What is watched is summed over tokens and characters, so that it is
    the same however the split is cut into batches.
    """

    watched: tuple[tuple[str, Direction], ...] = (
        ("loss", "lower"),
        ("bits_per_character", "lower"),
        ("accuracy", "higher"),
    )

    def __init__(self, characters: npt.NDArray[np.int32], smoothing: float = 0.0) -> None:
        """`characters` says how many begin in each token, [V]; `smoothing` is the share of every label that is spread
        over all tokens."""
        self._characters = torch.from_numpy(np.array(characters, dtype=np.int64))
        self._smoothing = smoothing

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over logits [B, T, V] and tokens [B, T]."""
        return functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), label_smoothing=self._smoothing)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed nats, right answers, tokens, and characters that begin in them."""
        if self._characters.device != targets.device:
            self._characters = self._characters.to(targets.device)
        logits, wanted = outputs.float().flatten(0, 1), targets.flatten()
        # Added up in float64: a sum of a million float32 numbers would depend on how they are cut into batches.
        nats = functional.cross_entropy(logits, wanted, reduction="none").double().sum()
        right = (logits.argmax(dim=1) == wanted).sum()
        counts = (right, torch.ones_like(wanted).sum(), self._characters[wanted].sum())
        return torch.stack([nats, *(each.double() for each in counts)])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """Nats of a token, bits of a character, and the share of right answers; `count` windows say nothing more."""
        nats, right, tokens, characters = totals.tolist()
        if not count:
            return math.nan, math.nan, math.nan
        bits = nats / math.log(2) / characters if characters else math.nan
        return nats / tokens, bits, right / tokens
