"""Paired differences of two models' figures, sample by sample."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from mlctl.metrics.intervals import Interval, percentile_interval
from mlctl.metrics.paired import McNemar, mcnemar, rate_difference_interval
from mlctl.metrics.resampling import bootstrapped
from mlctl.tasks.task import Answers, Task

BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class PairedDifference:
    """First minus second, its interval, and McNemar's test where both are rates of right answers."""

    estimate: float
    interval: Interval
    test: McNemar | None


def metric_difference(
    task: Task[Any], metric: str, answers: tuple[Answers, Answers], targets: Answers, confidence: float
) -> PairedDifference:
    """The difference of `metric` between two models' answers to the same samples."""
    right = [task.right(metric, each, targets) for each in answers]
    if right[0] is not None and right[1] is not None:
        estimate = float(right[0].mean() - right[1].mean())
        interval = rate_difference_interval(right[0], right[1], confidence)
        return PairedDifference(estimate, interval, mcnemar(right[0], right[1]))
    first, second = (task.measure((metric,), each, targets, confidence)[0].value for each in answers)
    samples = len(targets)
    draws = [bootstrapped(task.resampler(metric, each, targets), samples, seed=BOOTSTRAP_SEED) for each in answers]
    return PairedDifference(first - second, percentile_interval(np.subtract(*draws), confidence), None)
