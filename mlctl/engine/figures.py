"""Measured figures, and the promise to measure them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, TypeAlias

Direction: TypeAlias = Literal["higher", "lower"]


class Kind(StrEnum):
    """What a figure is about; it decides the exit code of a gate that fails."""

    METRIC = "metric"
    PARITY = "parity"
    LATENCY = "latency"
    SIZE = "size"
    DRIFT = "drift"

    @property
    def exit_code(self) -> int:
        """The exit code of a failed gate on such a figure."""
        return _EXIT_CODES[self]


_EXIT_CODES = {Kind.METRIC: 20, Kind.PARITY: 21, Kind.LATENCY: 22, Kind.SIZE: 23, Kind.DRIFT: 24}
INCONCLUSIVE_EXIT_CODE = 25


@dataclass(frozen=True)
class FigureName:
    """`step.figure`, or `step[model].figure` where a step measures several models."""

    step: str
    model: str | None
    figure: str

    def __str__(self) -> str:
        return f"{self.step}[{self.model}].{self.figure}" if self.model else f"{self.step}.{self.figure}"


@dataclass(frozen=True)
class Promise:
    """A figure that a step is going to measure."""

    figure: str
    kind: Kind
    model: str | None = None
    is_sampled: bool = False
    """There are results of single samples or calls behind it, so that an interval can decide a gate on it."""


@dataclass(frozen=True)
class Figure:
    """A figure that a step has measured; `low` and `high` are its interval at `confidence` where it has one."""

    figure: str
    kind: Kind
    value: float
    unit: str = ""
    model: str | None = None
    better: Direction | None = None
    low: float | None = None
    high: float | None = None
    confidence: float | None = None
    main: bool = False
    """This is the one that tables show first."""

    def name(self, step: str) -> FigureName:
        """The figure's full name, as gates spell it."""
        return FigureName(step, self.model, self.figure)
