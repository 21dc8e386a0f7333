"""Comparisons of two models on the same samples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from mlctl.metrics.intervals import normal_quantile
from mlctl.metrics.paired import (
    Booleans,
    conditional_interval,
    constrained_second_rate,
    mcnemar,
    rate_difference_interval,
    tango_interval,
)


def right(only_first: int, only_second: int, samples: int) -> tuple[Booleans, Booleans]:
    """Right and wrong of two models with these discordant pairs; half of the other samples are right for both."""
    both = (samples - only_first - only_second) // 2
    first = np.zeros(samples, np.bool_)
    second = np.zeros(samples, np.bool_)
    first[: both + only_first] = True
    second[:both] = True
    second[both + only_first : both + only_first + only_second] = True
    return first, second


COUNTS = st.integers(0, 40)


@given(first=COUNTS, second=COUNTS, others=st.integers(1, 200))
def test_mcnemar_is_the_exact_binomial_test(first: int, second: int, others: int) -> None:
    found = mcnemar(*right(first, second, first + second + others))
    assert (found.only_first, found.only_second) == (first, second)
    reference = binomtest(first, first + second).pvalue if first + second else 1.0
    assert found.p_value == pytest.approx(reference, rel=1e-10)  # two float64 ways to the same tail


def test_mcnemar_by_hand() -> None:
    # One tail of 8 throws with at most 1 head: 9 / 256.
    assert mcnemar(*right(7, 1, 100)).p_value == pytest.approx(18 / 256)


@given(first=COUNTS, second=COUNTS, others=st.integers(1, 200), difference=st.floats(-0.95, 0.95))
def test_tangos_rate_is_the_likeliest_under_the_difference(
    first: int, second: int, others: int, difference: float
) -> None:
    samples = first + second + others

    def unlikeliness(rate: float) -> float:
        parts = ((first, rate + difference), (second, rate), (others, 1 - 2 * rate - difference))
        if any(share <= 0 < count for count, share in parts):
            return 1e300
        return float(-sum(count * np.log(share) for count, share in parts if count))

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    best = minimize_scalar(unlikeliness, bounds=bounds, method="bounded", options={"xatol": 1e-12})
    found = constrained_second_rate(first, second, samples, difference)
    # The likelihood is flat at its top: a search by value can only find the place to about sqrt(1e-16).
    assert bounds[0] - 1e-12 <= found <= bounds[1] + 1e-12
    assert found == pytest.approx(best.x, abs=2e-6)


@given(first=COUNTS, second=COUNTS, others=st.integers(1, 200), confidence=st.sampled_from([0.8, 0.95, 0.99]))
def test_the_ends_of_tangos_interval_solve_tangos_equation(
    first: int, second: int, others: int, confidence: float
) -> None:
    samples = first + second + others
    found = tango_interval(first, second, samples, confidence)
    for end, sign in ((found.low, 1), (found.high, -1)):
        rate = constrained_second_rate(first, second, samples, end)
        deviation = (samples * (2 * rate + end * (1 - end))) ** 0.5
        # Counts up to 280 are the scale of both sides; the bisection leaves 1e-15 of difference times that.
        assert first - second - samples * end == pytest.approx(sign * normal_quantile(confidence) * deviation, abs=1e-8)
    assert found.low < (first - second) / samples < found.high


def test_tangos_interval_of_a_published_example() -> None:
    """Airway hyper-responsiveness, 21 children, discordant pairs 1 and 7: Fagerland, Lydersen and Laake (2014)."""
    found = tango_interval(1, 7, 21, 0.95)
    assert (found.low, found.high) == pytest.approx((-0.517, -0.026), abs=0.0005)  # printed with three decimals


def test_no_discordant_pair_still_leaves_a_width() -> None:
    found = rate_difference_interval(*right(0, 0, 100), 0.95)
    z = normal_quantile(0.95)
    # With no discordant pair Tango's equation is solved by z^2 / (n + z^2).
    assert (found.low, found.high) == pytest.approx((-z * z / (100 + z * z), z * z / (100 + z * z)), rel=1e-12)


@given(first=COUNTS, second=COUNTS, others=st.integers(1, 300), confidence=st.sampled_from([0.8, 0.9, 0.95, 0.99]))
def test_the_conditional_interval_excludes_zero_just_when_mcnemar_is_significant(
    first: int, second: int, others: int, confidence: float
) -> None:
    samples = first + second + others
    test = mcnemar(*right(first, second, samples))
    assert conditional_interval(first, second, samples, confidence).excludes_zero == (test.p_value < 1 - confidence)
    hull = rate_difference_interval(*right(first, second, samples), confidence)
    score = tango_interval(first, second, samples, confidence)
    assert hull.excludes_zero == (score.excludes_zero and test.p_value < 1 - confidence)


@given(first=COUNTS, second=COUNTS, others=st.integers(1, 200))
def test_exchanging_the_models_mirrors_the_interval(first: int, second: int, others: int) -> None:
    samples = first + second + others
    one = rate_difference_interval(*right(first, second, samples), 0.95)
    other = rate_difference_interval(*right(second, first, samples), 0.95)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-12)
    assert -1 <= one.low <= one.high <= 1


@pytest.mark.parametrize(("only_first", "only_second"), [(0.04, 0.02), (0.15, 0.15), (0.01, 0.0)])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(only_first: float, only_second: float) -> None:
    generator = np.random.default_rng(21)
    shares = [only_first, only_second, 1 - only_first - only_second]
    covered = 0
    for first, second, _ in generator.multinomial(150, shares, 1500):
        found = rate_difference_interval(*right(int(first), int(second), 150), 0.95)
        covered += found.low <= only_first - only_second <= found.high
    # 1,500 trials know 0.95 to 0.0056: three of that below. A hull may cover more than it says.
    assert covered / 1500 >= 0.95 - 3 * 0.0056


def test_one_model_against_itself_is_never_decided() -> None:
    answers = np.random.default_rng(0).random(500) < 0.9
    assert not rate_difference_interval(answers, answers, 0.95).excludes_zero
    assert mcnemar(answers, answers).p_value == 1.0
