"""Learning-rate range tests: what is asked for, and what is drawn on a terminal, as an image, as JSON."""

import os
from dataclasses import dataclass
from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from mlctl.engine.verdict import Verdict
from mlctl.errors import UsageError
from mlctl.recipe.train import TrainSettings
from mlctl.training.places import place_in

HEADROOM = 0.25
"""Share of the loss's fall that is shown above its beginning; what blows up leaves the frame there."""


@dataclass(frozen=True)
class RateQuestion:
    """A train step whose rate is wanted: its settings, the folder of its prepared data, and where the image goes."""

    step: str
    settings: TrainSettings
    data: Path
    image: Path


@dataclass(frozen=True)
class RateCurve:
    """One train step's range test: for every step of it the rate, the batch's loss, and the smoothed loss.

    `suggestion` is None where no rate stands out; `configured` is the rate that the recipe has.
    """

    step: str
    optimizer: str
    configured: float
    suggestion: float | None
    reason: str
    image: str
    """The PNG that shows it."""
    rates: tuple[float, ...]
    losses: tuple[float, ...]
    smoothed: tuple[float, ...]

    @property
    def decades(self) -> tuple[int, int]:
        """The powers of ten between which the rates lie."""
        first = floor(log10(self.rates[0]))
        return first, max(ceil(log10(self.rates[-1])), first + 1)

    @property
    def bounds(self) -> tuple[float, float]:
        """The losses between which the curve is shown."""
        low, first = min(self.losses), self.smoothed[0]
        high = first + HEADROOM * (first - min(self.smoothed))
        return low, high if high > low else low + 1.0

    @property
    def advice(self) -> str:
        """The suggestion in one line, with what the recipe has."""
        recipe = f"the recipe has {self.configured:.3g} for {self.optimizer}"
        if self.suggestion is None:
            return f"{self.step}: no learning rate to suggest ({recipe}): {self.reason}"
        return f"{self.step}: learning rate {self.suggestion:.2g} ({recipe}): {self.reason}"


@dataclass(frozen=True)
class RateVerdict(Verdict):
    """The verdict of `mlctl train --find-lr`, with the curves."""

    curves: tuple[RateCurve, ...] = ()

    def _plain(self) -> dict[str, Any]:
        return {**super()._plain(), "curves": [vars(curve) for curve in self.curves]}


def image_path(store: Path, recipe: str, step: str) -> Path:
    """Where a step's curve lies in the store unless `--output` says otherwise."""
    return store / "reports" / f"{recipe}.{step}.find-lr.png"


def require_one_process() -> None:
    """Raise UsageError where this process is one of several that torchrun, Slurm or mlctl started."""
    if place_in(os.environ):
        raise UsageError("rates are tried by one process", next="start `mlctl train --find-lr` on its own")
