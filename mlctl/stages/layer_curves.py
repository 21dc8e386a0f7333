"""What every layer's units are worth: what is asked for, and what is drawn on a terminal, as an image, as JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from mlctl.engine.verdict import Verdict
from mlctl.recipe.prune import StructuredPruning

SHARES = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875)
"""Shares of a layer's units that are taken out."""


@dataclass(frozen=True)
class LayerQuestion:
    """A prune step whose layers are looked at: its settings, the folders of its model and data, and the image."""

    step: str
    settings: StructuredPruning
    model: Path
    data: Path
    image: Path


@dataclass(frozen=True)
class LayerCurve:
    """One layer: how many units it has, and the figure with each of `SHARES` of them gone, and nothing else changed.

    A share that would leave nothing has none.
    """

    layer: str
    kind: str
    units: int
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class LayerCurves:
    """A prune step's layers, in the order of the network, and those that cannot be pruned, with why."""

    step: str
    figure: str
    better: Literal["higher", "lower"]
    whole: float
    """The figure of the network as it is."""
    rows: int
    """Rows of the validation split that it was measured on."""
    image: str
    """The PNG that shows them."""
    layers: tuple[LayerCurve, ...]
    fixed: Mapping[str, str]

    def loss(self, value: float) -> float:
        """How much worse than the whole network's a figure is."""
        return self.whole - value if self.better == "higher" else value - self.whole

    def most_sensitive(self, count: int) -> tuple[LayerCurve, ...]:
        """The layers that lose most when half of their units go, greatest loss first."""
        half = SHARES.index(0.5)
        known = [each for each in self.layers if each.values[half] is not None]
        return tuple(sorted(known, key=lambda each: -self.loss(each.values[half] or 0.0))[:count])


@dataclass(frozen=True)
class LayerVerdict(Verdict):
    """The verdict of `mlctl prune --sensitivity`, with the curves."""

    curves: tuple[LayerCurves, ...] = ()

    def _plain(self) -> dict[str, Any]:
        return {**super()._plain(), "shares": SHARES, "curves": [asdict(curve) for curve in self.curves]}


def image_path(store: Path, recipe: str, step: str) -> Path:
    """Where a step's curves lie in the store unless `--output` says otherwise."""
    return store / "reports" / f"{recipe}.{step}.sensitivity.png"
