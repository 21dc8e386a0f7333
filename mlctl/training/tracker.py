"""What a tracker is told of an epoch."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from mlctl.training.history import EpochRecord

Ending: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
"""How a training ended, in MLflow's words."""


@dataclass(frozen=True)
class EpochFigures:
    """One epoch: the steps done by its end, and finite numbers by name."""

    step: int
    named: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, record: EpochRecord, watched: Sequence[str]) -> "EpochFigures":
        """The record's figures; `watched` names those on the validation split."""
        validation = zip(watched, record.validation, strict=True)
        named = [
            ("epoch", float(record.epoch)),
            ("train/loss", record.train_loss),
            ("train/learning_rate", record.learning_rate),
            *((f"validation/{name}", value) for name, value in validation if value is not None),
        ]
        return cls(record.step, tuple(named))


class Tracker(Protocol):
    """Someone who hears of every epoch, and never of one twice."""

    def epoch(self, figures: EpochFigures) -> None:
        """Take the epoch's figures, unless they are known; never waits for a network."""
        ...

    def close(self, ending: Ending) -> None:
        """Hand on what was taken, and say how the training ended."""
        ...
