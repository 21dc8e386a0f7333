"""Cuts that set weights to zero."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from mlctl.compression.pruning.gradual import zeros_held
from mlctl.compression.pruning.sparsity import Sparsity, WeightPruning, asked_share, prune_weights, sparsity_of
from mlctl.events import Tell, Warned
from mlctl.recipe.prune import UnstructuredPruning
from mlctl.stages.cutting import Cut, LayerCut
from mlctl.training.batches import Samples
from mlctl.training.learner import AfterStep

WEIGHTS = "weights"


class WeightCutting:
    """Single weights, or those of a pattern, become zero and stay so."""

    def __init__(self, settings: WeightPruning, samples: Callable[[], Samples], tell: Tell) -> None:
        """`samples` gives the rows that an importance looks at."""
        self._settings = settings
        self._samples = samples
        self._tell = tell

    def cut(self, so_far: Cut, done: float) -> Cut:
        """As `Cutting.cut`; where zeros are made while the network learns, only the layers are looked at."""
        if isinstance(self._settings, UnstructuredPruning) and self._settings.gradual:
            return replace(so_far, fixed=sparsity_of(so_far.model.network, self._settings.protect).whole)
        samples = self._samples() if self._settings.importance == "wanda" else None
        found = prune_weights(so_far.model, self._settings, asked_share(self._settings) * done, samples)
        if found.unseen:
            self._tell(Warned(f"inputs could not be seen, so weights go by their own size: {', '.join(found.unseen)}"))
        return replace(so_far, layers=_layers(found), fixed=found.whole)

    def held(self, cut: Cut) -> AbstractContextManager[AfterStep | None]:
        """As `Cutting.held`: zeros stay zeros, and come to be where the ratio rises."""
        return zeros_held(cut.model.network, self._settings)

    def layers(self, cut: Cut) -> tuple[LayerCut, ...]:
        """As `Cutting.layers`, counted."""
        return _layers(sparsity_of(cut.model.network, self._settings.protect))


def _layers(found: Sparsity) -> tuple[LayerCut, ...]:
    return tuple(LayerCut(each.name, WEIGHTS, each.weights, each.weights - each.zeros) for each in found.layers)
