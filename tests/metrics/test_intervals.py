"""Intervals of one model's figure."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from mlctl.metrics.intervals import (
    Interval,
    figure_interval,
    normal_quantile,
    percentile_interval,
    samples_to_decide,
    wilson_interval,
)


def test_the_normal_quantile_of_95_percent() -> None:
    assert normal_quantile(0.95) == pytest.approx(1.959963984540054, rel=1e-12)


@given(samples=st.integers(1, 5000), share=st.floats(0, 1), confidence=st.floats(0.5, 0.999))
def test_wilson_is_scipys(samples: int, share: float, confidence: float) -> None:
    right = round(share * samples)
    reference = binomtest(right, samples).proportion_ci(confidence, method="wilson")
    found = wilson_interval(right, samples, confidence)
    # Both evaluate the same closed form; what is left is cancellation near 0, below 1e-12.
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-12)
    assert 0 <= found.low <= right / samples <= found.high <= 1


def test_wilson_covers_the_true_rate_as_often_as_it_says() -> None:
    samples, rate = 200, 0.9
    right = np.random.default_rng(11).binomial(samples, rate, 4000)
    found = [wilson_interval(int(each), samples, 0.95) for each in right]
    covered = np.mean([each.low <= rate <= each.high for each in found])
    # The exact coverage at this point is 0.9561 (summed over the binomial); 4,000 trials know it to 0.0033.
    assert covered == pytest.approx(0.9561, abs=4 * 0.0033)


def test_the_bootstrap_covers_a_mean_squared_error_nearly_as_often_as_it_says() -> None:
    generator = np.random.default_rng(12)
    covered = 0
    for trial in range(200):
        predictions = generator.normal(size=100)
        found = figure_interval("mse", predictions, np.zeros(100), confidence=0.9, seed=trial)
        covered += found.low <= 1.0 <= found.high
    # Squares of normal numbers are skewed: percentile intervals of 100 of them cover 0.88 instead of 0.90 (4,000
    # trials). 200 trials know a share to 0.023: 4 deviations to either side of the two.
    assert 0.79 <= covered / 200 <= 0.99


def test_percentiles_of_known_replicates() -> None:
    found = percentile_interval(np.arange(101, dtype=np.float64), 0.9)
    assert (found.low, found.high) == pytest.approx((5, 95))


def test_rates_take_wilson_and_other_figures_the_seeded_bootstrap() -> None:
    generator = np.random.default_rng(1)
    targets = generator.integers(0, 3, 80)
    probabilities = generator.dirichlet(np.ones(3), 80)
    right = int((probabilities.argmax(axis=1) == targets).sum())
    rate = figure_interval("accuracy", probabilities, targets, confidence=0.95, seed=0)
    assert rate == wilson_interval(right, 80, 0.95)
    first, again = (figure_interval("f1", probabilities, targets, confidence=0.95, seed=3) for _ in range(2))
    assert first == again
    assert first.low < first.high


def test_an_interval_that_touches_zero_does_not_exclude_it() -> None:
    assert Interval(0.01, 0.2, 0.95).excludes_zero
    assert Interval(-0.2, -0.01, 0.95).excludes_zero
    assert not Interval(0.0, 0.2, 0.95).excludes_zero
    assert not Interval(-0.1, 0.2, 0.95).excludes_zero


def test_samples_to_decide_follows_the_square_root() -> None:
    # The side that faces zero is twice the estimate, so four times the samples halve it; one more to get past zero.
    assert samples_to_decide(Interval(-0.01, 0.03, 0.95), 0.01, 100) == 301
    assert samples_to_decide(Interval(-0.03, 0.01, 0.95), -0.01, 100) == 301


def test_samples_to_decide_at_the_ends() -> None:
    assert samples_to_decide(Interval(0.01, 0.03, 0.95), 0.02, 100) == 0
    assert samples_to_decide(Interval(-0.02, 0.02, 0.95), 0.0, 100) is None
    assert samples_to_decide(Interval(-0.02, 0.02, 0.95), 0.1 + 0.2 - 0.3, 100) is None
    assert samples_to_decide(Interval(0.0, 0.02, 0.95), 0.01, 100) == 1


@given(right=st.integers(30, 70), samples=st.just(100))
def test_the_samples_it_asks_for_do_decide(right: int, samples: int) -> None:
    estimate = right / samples - 0.5
    wilson = wilson_interval(right, samples, 0.95)
    more = samples_to_decide(Interval(wilson.low - 0.5, wilson.high - 0.5, 0.95), estimate, samples)
    if right == 50:
        assert more is None
        return
    assert more is not None
    half = (wilson.high - wilson.low) / 2 * (samples / (samples + more)) ** 0.5
    # Wilson's interval leans towards one half, so the side that faces zero is the longer one: half a width suffices.
    assert half < abs(estimate) or more == 0
