"""How much faster a model is than the one that it was made from, as a figure."""

from typing import Final

from mlctl.engine.figures import Figure, Kind
from mlctl.metrics.speed import Faster

FASTER: Final = "faster_than_parent"


def parent_speed(found: Faster, confidence: float, model: str | None = None) -> Figure:
    """The figure of what `faster_than` has found at that confidence; below 1 the model is slower."""
    return Figure(
        FASTER,
        Kind.LATENCY,
        found.ratio,
        model=model,
        better="higher",
        low=found.interval.low,
        high=found.interval.high,
        confidence=confidence,
    )
