"""The statistics of gates, on per-sample answers and per-round latencies."""

import re
from pathlib import Path
from typing import Final

from mlctl.engine.expressions import evaluate, linear_form
from mlctl.engine.figures import FigureName
from mlctl.engine.gates import Difference, Gate
from mlctl.metrics.classification import Booleans
from mlctl.metrics.evaluation_files import EvaluationFiles
from mlctl.metrics.intervals import Interval, replicate_interval, samples_to_decide, wilson_interval
from mlctl.metrics.paired import mcnemar, rate_difference_interval
from mlctl.metrics.resampling import Floats, bootstrapped, percentile_replicates
from mlctl.metrics.speed import faster_replicates
from mlctl.tasks.table import TASKS

FEWEST_SAMPLES: Final = 20
"""A bootstrap of fewer samples has too few different draws to be an interval."""
DEFAULT_CONFIDENCE: Final = 0.95
BOOTSTRAP_SEED: Final = 0
_LATENCY: Final = re.compile(r"p50_batch_(\d+)|faster_than_parent")


def gate_difference(gate: Gate, folder: Path) -> Difference | None:
    """The interval of the gate's left side minus its right side, over the evaluation in `folder`.

    A rate of right answers against a constant: Wilson's interval. Two such rates: Tango's interval and McNemar's
    exact test. Everything else: the paired bootstrap of both sides. None for figures such as sizes, which do not
    vary from sample to sample.
    """
    files = EvaluationFiles.open(folder)
    confidence = gate.confidence or DEFAULT_CONFIDENCE
    return _of_rates(gate, files, confidence) or _bootstrapped(gate, files, confidence)


def _of_rates(gate: Gate, files: EvaluationFiles, confidence: float) -> Difference | None:
    form = _left_minus_right(gate)
    if form is None:
        return None
    coefficients = {name: value for name, value in form[0].items() if value}
    right = {name: _right(name, files) for name in coefficients}
    known = {name: answers for name, answers in right.items() if answers is not None}
    if len(known) != len(coefficients):
        return None
    by_sign = sorted(known, key=lambda name: -coefficients[name])
    match [coefficients[name] for name in by_sign]:
        case [1.0 | -1.0 as sign]:
            answers = known[by_sign[0]]
            found = wilson_interval(int(answers.sum()), len(answers), confidence)
            low, high = sorted((sign * found.low, sign * found.high))
            interval = Interval(low, high, confidence)
            return _difference(interval, sign * float(answers.mean()), form[1], "wilson", len(answers))
        case [1.0, -1.0]:
            pair = known[by_sign[0]], known[by_sign[1]]
            interval = rate_difference_interval(*pair, confidence)
            estimate = float(pair[0].mean() - pair[1].mean())
            p_value = mcnemar(*pair).p_value
            return _difference(interval, estimate, form[1], "mcnemar-tango", len(pair[0]), p_value)
    return None


def _left_minus_right(gate: Gate) -> tuple[dict[FigureName, float], float] | None:
    left, right = linear_form(gate.comparison.left), linear_form(gate.comparison.right)
    if left is None or right is None:
        return None
    names = {**left[0], **right[0]}
    return {name: left[0].get(name, 0.0) - right[0].get(name, 0.0) for name in names}, left[1] - right[1]


def _right(name: FigureName, files: EvaluationFiles) -> Booleans | None:
    if name.figure not in files.index.metrics or name.model not in files.index.models:
        return None
    return TASKS[files.index.task].right(name.figure, files.answers(name.model), files.targets)


def _bootstrapped(gate: Gate, files: EvaluationFiles, confidence: float) -> Difference | None:
    names = gate.comparison.figures
    if all(name.figure in files.index.metrics for name in names):
        values = {name: _metric_replicates(name, files) for name in names}
        samples = len(files.targets)
    elif all(_LATENCY.fullmatch(name.figure) for name in names):
        values = {name: _latency_replicates(name, files) for name in names}
        samples = len(files.seconds(files.index.models[0], files.index.batches[0]))
    else:
        return None
    if samples < FEWEST_SAMPLES:
        return None
    sides = gate.comparison.left, gate.comparison.right
    found = replicate_interval(lambda: evaluate(sides[0], values) - evaluate(sides[1], values), confidence)
    return found and _difference(found[0], found[1], 0.0, "bootstrap", samples)


def _metric_replicates(name: FigureName, files: EvaluationFiles) -> Floats:
    assert name.model
    targets = files.targets
    figures = TASKS[files.index.task].resampler(name.figure, files.answers(name.model), targets)
    return bootstrapped(figures, len(targets), seed=BOOTSTRAP_SEED)


def _latency_replicates(name: FigureName, files: EvaluationFiles) -> Floats:
    match = _LATENCY.fullmatch(name.figure)
    assert match
    assert name.model
    if match[1] is None:
        parent = files.all_seconds(files.index.parents[name.model])
        return faster_replicates(parent, files.all_seconds(name.model), seed=BOOTSTRAP_SEED)
    milliseconds = files.seconds(name.model, int(match[1])) * 1000
    return percentile_replicates(milliseconds, 50, seed=BOOTSTRAP_SEED)


def _difference(
    interval: Interval, estimate: float, shift: float, method: str, samples: int, p_value: float | None = None
) -> Difference:
    moved = Interval(interval.low + shift, interval.high + shift, interval.confidence)
    excludes_zero = moved.low > 0 or moved.high < 0
    more = None if excludes_zero else samples_to_decide(moved, estimate + shift, samples)
    return Difference(moved.low, moved.high, moved.confidence, method, samples, p_value, more)
