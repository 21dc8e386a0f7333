"""How one cut of a network is made, whatever the method."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol

from mlctl.compression.pruning.selection import Whole
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.training.learner import AfterStep


@dataclass(frozen=True)
class LayerCut:
    """What is left of one layer: how many of its units, or of its weights, there were and are."""

    layer: str
    kind: str
    """channels, units, heads, weights, or block."""
    before: int
    after: int

    @property
    def text(self) -> str:
        """`32 of 64 channels`."""
        return f"{self.after:,} of {self.before:,} {self.kind}"


@dataclass(frozen=True)
class Cut:
    """A network as it was cut so far, by `step` + 1 cuts."""

    config: ModelConfig
    model: CompleteModel
    step: int = -1
    layers: tuple[LayerCut, ...] = ()
    fixed: Mapping[str, str] = field(default_factory=dict)
    """Layers that cannot be cut, and why."""
    original: Whole | None = None
    """The network before units were taken out of it, which later cuts are shares of."""


class Cutting(Protocol):
    """Cuts a network in one or several steps; each cut follows from the network and the settings alone."""

    def cut(self, so_far: Cut, done: float) -> Cut:
        """The network cut on, in place, until the share `done` of all that is to go is gone.

        Raises StepFailed where that cannot be.
        """
        ...

    def held(self, cut: Cut) -> AbstractContextManager[AfterStep | None]:
        """Within it the network may learn: what is to be called after every step so that the cut stays, if anything.

        On leaving, raises StepFailed where it did not.
        """
        ...

    def layers(self, cut: Cut) -> tuple[LayerCut, ...]:
        """What is left of every layer once the network has learnt again."""
        ...
