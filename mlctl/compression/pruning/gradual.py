"""Pruning while a network learns, and what keeps its zeros until the end."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from typing import Any, Final

import torch
from torch import nn

from mlctl.compression.pruning.held_zeros import KeepZeros
from mlctl.compression.pruning.weight_choice import by_size
from mlctl.errors import StepFailed
from mlctl.recipe.prune import PatternPruning, UnstructuredPruning
from mlctl.training.learner import AfterStep

RAMP: Final = 0.75
"""Share of the steps over which zeros are made; in the rest the network learns with all of them."""

LEVELS: Final = 100
"""Times that zeros are made: to look for the smallest of all weights costs about as much as a small step."""


def scheduled_share(ratio: float, done: float) -> float:
    """The share of zeros after the share `done` of all steps (Zhu & Gupta 2017, eq. 1, from no zeros at all).

    ratio x (1 - (1 - t)³), where t goes from 0 to 1 over the first three quarters in hundredths, rounded down.
    """
    passed = floor(min(done / RAMP, 1.0) * LEVELS) / LEVELS
    return float(ratio * (1 - (1 - passed) ** 3))


class Gradual(KeepZeros):
    """More and more of the smallest weights become zero while a network learns, and stay so; `after_step` of `fit`.

    All that it knows follows from the weights and the share of steps done. What is held is always what is zero after a
    step; where the network's weights are loaded, as from a checkpoint, it is taken from those. To look again for a
    share that the zeros have reached already changes nothing, for they are the smallest.
    """

    def __init__(self, network: nn.Module, settings: UnstructuredPruning) -> None:
        """Raises what `prunable_weights` raises, and StepFailed for a ratio that leaves a layer nothing."""
        super().__init__(network, settings.protect)
        self.settings = settings
        self.share: float | None = None
        """The share that was last looked for; None where that is not known."""
        if settings.scope == "layer":
            # What is found at the end can be found now: the sizes of layers decide it, and not their weights.
            by_size(self.weights, settings.ratio, "layer")
        self.handle = network.register_load_state_dict_post_hook(self._loaded)  # type: ignore[no-untyped-call]

    def __call__(self, done: float) -> None:
        """Clear what is held, and what else is due; waits for the device where the share has grown.

        Raises StepFailed where a layer would be left without a weight.
        """
        self.clear()
        share = scheduled_share(self.settings.ratio, done)
        if share != self.share:
            self.make_zeros(share)
            self.share = share
        # A weight that chance has made zero is held as well: a checkpoint could not tell it from the others.
        self.take_zeros()

    @torch.no_grad()
    def make_zeros(self, share: float) -> None:
        """Set the smallest weights to zero."""
        chosen = by_size(self.weights, share, self.settings.scope)
        for weight, goes in zip(self.weights, chosen, strict=True):
            weight.parameter.masked_fill_(goes, 0.0)

    def check(self) -> None:
        """Raise StepFailed where there are fewer zeros than the settings ask for, or one of them lives again."""
        super().check()
        counts = [(int((weight.parameter == 0).sum()), weight.parameter.numel()) for weight in self.weights]
        if self.settings.scope == "global":
            counts = [(sum(zeros for zeros, _ in counts), sum(size for _, size in counts))]
        if any(zeros < round(self.settings.ratio * size) for zeros, size in counts):
            zeros, size = (sum(column) for column in zip(*counts, strict=True))
            raise StepFailed(
                f"the weights that finetuning kept are {zeros / size:.1%} zeros, and the ratio is "
                f"{self.settings.ratio:.1%}: they are of an epoch before the last",
                next="set `finetune.keep_best` and `finetune.early_stopping` to null",
            )

    def close(self) -> None:
        """Let the network go."""
        self.handle.remove()

    def _loaded(self, network: nn.Module, keys: Any) -> None:
        self.take_zeros()
        self.share = None


@contextmanager
def zeros_held(network: nn.Module, settings: UnstructuredPruning | PatternPruning) -> Iterator[AfterStep]:
    """An `after_step` for `fit` that keeps the network's zeros, and makes them where the settings say `gradual`.

    `network` is the cut one, or where pruning is gradual the whole one, as it is before every start of the training. On
    leaving, the zeros are checked. Raises what `prunable_weights` raises, and StepFailed where zeros are missing.
    """
    if isinstance(settings, UnstructuredPruning) and settings.gradual:
        gradual = Gradual(network, settings)
        try:
            yield gradual
        finally:
            gradual.close()
        gradual.check()
        return
    keeper = KeepZeros(network, settings.protect)
    yield keeper
    keeper.check()
