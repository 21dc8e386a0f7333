"""A latency is reached with few measurements, whatever it depends on beside arithmetic."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from unit_groups import chain

from mlctl.compression.pruning.latency_search import CLOSE, MOST_MEASUREMENTS, Measure, select_by_latency
from mlctl.compression.pruning.selection import Rules, Selection
from mlctl.compression.pruning.unit_costs import UnitCosts
from mlctl.errors import StepFailed

NETWORK, FOUND = chain((64, 128, 128, 64, 10), device="meta")
COSTS = UnitCosts(FOUND, NETWORK)
SCORES = {each.name: np.random.default_rng(number).random(each.count) for number, each in enumerate(FOUND.groups)}
WHOLE = COSTS.cost().multiply_adds


def measuring(latency: Callable[[float], float]) -> tuple[Measure, list[Selection]]:
    """A latency that depends on the share of arithmetic, and all selections that it was asked for."""
    asked: list[Selection] = []

    def measure(selection: Selection) -> float:
        asked.append(selection)
        return latency(selection.multiply_adds / WHOLE)

    return measure, asked


@given(
    overhead=st.floats(0.0, 0.6),
    power=st.floats(0.5, 1.5),
    aim=st.floats(0.15, 0.9),
)
def test_the_target_is_met_closely_with_at_most_eight_measurements(overhead: float, power: float, aim: float) -> None:
    share = overhead + (1 - overhead) * aim
    measure, asked = measuring(lambda left: overhead + (1 - overhead) * left**power)
    found = select_by_latency(COSTS, SCORES, share, measure, Rules())
    assert len(asked) == len(found.measured) <= MOST_MEASUREMENTS
    assert found.latency <= share
    assert measure(found.selection) == found.latency
    # One unit of 320 is a hundredth of the arithmetic at most, which is as near as one can come.
    assert found.latency >= share * (1 - CLOSE) - 0.02
    assert [each.multiply_adds for each in found.measured] == [each.multiply_adds / WHOLE for each in asked[:-1]]


def test_of_noisy_measurements_one_that_was_fast_enough_is_taken() -> None:
    dice = np.random.default_rng(8)
    measure, asked = measuring(lambda left: left * dice.normal(1, 0.1))
    found = select_by_latency(COSTS, SCORES, 0.5, measure)
    assert found.latency <= 0.5
    assert (found.selection.multiply_adds / WHOLE, found.latency) in [
        (each.multiply_adds, each.latency) for each in found.measured
    ]
    assert len(asked) <= MOST_MEASUREMENTS


def test_a_network_that_is_fast_enough_is_not_measured() -> None:
    measure, asked = measuring(lambda left: left)
    found = select_by_latency(COSTS, SCORES, 0.6, measure, now=0.55)
    assert not asked
    assert not found.selection.kept
    assert found.latency == 0.55
    assert found.selection.multiply_adds == WHOLE


def test_a_later_step_starts_from_what_the_network_takes_now() -> None:
    measure, _ = measuring(lambda left: 0.8 * left)
    found = select_by_latency(COSTS, SCORES, 0.4, measure, now=0.8)
    assert 0.4 * (1 - CLOSE) - 0.02 <= found.latency <= 0.4
    assert len(found.measured) <= 3  # a straight line


def test_a_latency_out_of_reach_says_how_fast_one_can_be() -> None:
    measure, asked = measuring(lambda left: 0.5 + 0.5 * left)
    with pytest.raises(StepFailed, match=r"0\.3 of the latency are to stay, and 0\.50\d stay") as failed:
        select_by_latency(COSTS, SCORES, 0.3, measure)
    assert "`latency` above 0.50" in failed.value.next
    assert len(asked) <= MOST_MEASUREMENTS


def test_a_network_of_which_nothing_may_go_is_not_measured() -> None:
    measure, asked = measuring(lambda left: left)
    with pytest.raises(StepFailed, match="no layer can lose a unit"):
        select_by_latency(COSTS, SCORES, 0.5, measure, Rules(protect=("layers.*",)))
    assert not asked
