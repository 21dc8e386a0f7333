"""What every epoch came to, and which one was best."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, isfinite

from mlctl.digests import canonical
from mlctl.recipe.vocabulary import Direction


@dataclass(frozen=True)
class EpochRecord:
    """One epoch: its number and the steps done by its end (both from 1), the learning rate of its last step, the mean
    training loss, and the watched figures on the validation split (None where one is not a finite number).

    No times stand here, so that the same training always writes the same bytes.
    """

    epoch: int
    step: int
    learning_rate: float
    train_loss: float
    validation: tuple[float | None, ...]


def finite_figures(figures: Sequence[float]) -> tuple[float | None, ...]:
    """The figures, with None for what is not a finite number."""
    return tuple(figure if isfinite(figure) else None for figure in figures)


def json_lines(history: Sequence[EpochRecord], watched: Sequence[str]) -> str:
    """The history as JSON, a line for each epoch; `watched` names the validation figures."""
    lines = (
        canonical(
            {
                "epoch": record.epoch,
                "step": record.step,
                "learning_rate": record.learning_rate,
                "train_loss": record.train_loss,
                "validation": dict(zip(watched, record.validation, strict=True)),
            }
        )
        for record in history
    )
    return "".join(line.decode() + "\n" for line in lines)


def last_improvement(figures: Sequence[float | None], direction: Direction, min_delta: float = 0.0) -> int | None:
    """The index of the last figure that was better than the best before it by more than `min_delta`.

    With `min_delta` 0 that is the best of all, the earliest of equals. None where no figure is a number.
    """
    best, index = inf, None
    for position, figure in enumerate(figures):
        if figure is None:
            continue
        cost = figure if direction == "lower" else -figure
        if cost < best - min_delta:
            best, index = cost, position
    return index


def has_stalled(figures: Sequence[float | None], direction: Direction, patience: int, min_delta: float) -> bool:
    """Whether the last `patience` figures brought no improvement."""
    improved = last_improvement(figures, direction, min_delta)
    return len(figures) - 1 - (-1 if improved is None else improved) >= patience
