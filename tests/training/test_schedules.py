from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, LRScheduler, MultiStepLR, OneCycleLR

from mlctl.recipe.optimization import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    OneCycleSchedule,
    ScheduleSettings,
    StepSchedule,
)
from mlctl.training.schedules import learning_rate

HEIGHT = 0.2


def new_optimizer() -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1)], lr=HEIGHT)


def rates_of(scheduler: LRScheduler, total: int) -> list[float]:
    rates = []
    for _ in range(total):
        rates.append(float(scheduler.get_last_lr()[0]))
        scheduler.optimizer.step()
        scheduler.step() if len(rates) < total else None
    return rates


def rates(schedule: ScheduleSettings, total: int, height: float = HEIGHT) -> list[float]:
    return [learning_rate(schedule, height, step, total) for step in range(total)]


def test_a_constant_rate_is_constant() -> None:
    assert set(rates(ConstantSchedule(), 50, 0.3)) == {0.3}


def test_the_warm_up_rises_in_equal_parts_and_ends_at_the_height() -> None:
    found = rates(ConstantSchedule(warmup=0.4), 10, 0.5)
    assert found[:6] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


# Both in double precision; torch multiplies one step's rate into the next.
@pytest.mark.parametrize("total", [1, 2, 7, 40, 333])
def test_a_cosine_without_warm_up_is_torchs_own(total: int) -> None:
    wanted = rates_of(CosineAnnealingLR(new_optimizer(), T_max=total, eta_min=0.1 * HEIGHT), total)
    assert rates(CosineSchedule(floor=0.1), total) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("total", [1, 2, 7, 40, 333])
def test_a_line_without_warm_up_is_torchs_own(total: int) -> None:
    wanted = rates_of(LinearLR(new_optimizer(), start_factor=1.0, end_factor=0.1, total_iters=total), total)
    assert rates(LinearSchedule(floor=0.1), total) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("total", [10, 40, 333])
def test_steps_without_warm_up_are_torchs_own(total: int) -> None:
    milestones = [round(0.3 * total), round(0.6 * total), round(0.85 * total)]
    wanted = rates_of(MultiStepLR(new_optimizer(), milestones, gamma=0.2), total)
    assert rates(StepSchedule(milestones=(0.3, 0.6, 0.85), factor=0.2), total) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("total", [5, 40, 333])
@pytest.mark.parametrize("warmup", [0.25, 0.3, 0.9])
def test_one_cycle_is_torchs_own(total: int, warmup: float) -> None:
    scheduler = OneCycleLR(
        new_optimizer(), max_lr=HEIGHT, total_steps=total, pct_start=warmup, cycle_momentum=False,
        div_factor=25.0, final_div_factor=1e4,
    )  # fmt: skip
    assert rates(OneCycleSchedule(warmup=warmup), total) == pytest.approx(rates_of(scheduler, total), rel=1e-9)


def test_a_cosine_after_a_warm_up_starts_high_and_passes_the_middle_at_half_height() -> None:
    schedule = CosineSchedule(warmup=0.2)
    assert learning_rate(schedule, 1.0, 20, 100) == 1.0
    assert learning_rate(schedule, 1.0, 60, 100) == pytest.approx(0.5)
    # One step of 80 before the end: (1 + cos(79/80 π)) / 2.
    assert learning_rate(schedule, 1.0, 99, 100) == pytest.approx(3.8545e-4, rel=1e-4)


def test_a_line_after_a_warm_up_falls_by_equal_parts() -> None:
    found = rates(LinearSchedule(warmup=0.2, floor=0.2), 10, 1.0)
    assert found == pytest.approx([1 / 3, 2 / 3, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])


def test_steps_that_lie_within_the_warm_up_show_after_it() -> None:
    found = rates(StepSchedule(warmup=0.5, milestones=(0.2, 0.8), factor=0.5), 10, 1.0)
    assert found[4] == pytest.approx(5 / 6)
    assert found[5:] == [0.5, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("total", [1, 2, 3])
def test_a_cycle_without_room_to_rise_begins_at_the_top(total: int) -> None:
    found = rates(OneCycleSchedule(warmup=0.3), total, 1.0)
    assert found[0] == 1.0
    assert found == sorted(found, reverse=True)
    assert len(set(found)) == total


shares = st.floats(0, 0.99)
above_zero = st.floats(1e-6, 0.99)
schedules = st.one_of(
    st.builds(ConstantSchedule, warmup=shares),
    st.builds(CosineSchedule, warmup=shares, floor=shares),
    st.builds(LinearSchedule, warmup=shares, floor=shares),
    st.builds(
        StepSchedule,
        warmup=shares,
        milestones=st.lists(above_zero, min_size=1, max_size=3, unique=True).map(lambda each: tuple(sorted(each))),
        factor=above_zero,
    ),
    st.builds(OneCycleSchedule, warmup=above_zero, start=above_zero, end=above_zero),
)


@given(schedule=schedules, total=st.integers(1, 1000))
def test_no_step_is_without_a_rate_and_none_is_above_the_height(schedule: ScheduleSettings, total: int) -> None:
    found = rates(schedule, total, 0.1)
    assert all(0 < rate <= 0.1 * (1 + 1e-12) for rate in found)
    top = found.index(max(found))
    slack = 1e-15  # where a rise or a fall is flat, rounding shows
    assert all(later >= rate - slack for rate, later in pairwise(found[:top]))
    assert all(later <= rate + slack for rate, later in pairwise(found[top:]))
