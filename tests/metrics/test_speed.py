"""How much faster a model is than another, by calls whose times are known."""

from statistics import median

import numpy as np
import pytest

from mlctl.metrics.resampling import RESAMPLES, Floats, draws
from mlctl.metrics.speed import faster_replicates, faster_than


def calls(seed: int, *scales: float, rounds: int = 40) -> Floats:
    """Seconds of calls, [batches, rounds], around these scales."""
    dice = np.random.default_rng(seed)
    return np.asarray([scale * dice.gamma(50, 1 / 50, rounds) for scale in scales])


def test_the_worst_batch_size_decides() -> None:
    other, model = calls(0, 4, 2, 9), calls(1, 2, 4, 3)
    found = faster_than(other, model, confidence=0.95, seed=0)
    by_hand = [median(a) / median(b) for a, b in zip(other.tolist(), model.tolist(), strict=True)]
    assert found.column == 1
    assert found.ratio == pytest.approx(min(by_hand))
    assert found.interval.low < found.ratio < found.interval.high < 1


def test_calls_of_the_same_model_are_exactly_as_fast() -> None:
    """Paired rounds: what differs from round to round cancels, and the interval has no width."""
    seconds = calls(0, 1, 30)
    found = faster_than(seconds, seconds, confidence=0.95, seed=0)
    assert (found.ratio, found.interval.low, found.interval.high) == (1, 1, 1)


def test_a_slow_round_slows_both_and_changes_nothing() -> None:
    drift = 1 + np.arange(40) / 10
    other, model = np.array([3.0 * drift]), np.array([2.0 * drift])
    found = faster_than(other, model, confidence=0.99, seed=0)
    assert found.interval.low == pytest.approx(1.5)
    assert found.interval.high == pytest.approx(1.5)


def test_replicates_are_those_of_drawn_rounds() -> None:
    other, model = calls(0, 4, 2), calls(1, 2, 4)
    found = faster_replicates(other, model, seed=3)
    drawn = np.concatenate(list(draws(40, seed=3)))
    assert found.shape == (RESAMPLES,)
    for number in (0, 7, RESAMPLES - 1):
        rounds = drawn[number]
        ratios = [median(a[rounds].tolist()) / median(b[rounds].tolist()) for a, b in zip(other, model, strict=True)]
        assert found[number] == pytest.approx(min(ratios))
