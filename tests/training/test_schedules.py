import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlctl.recipe.optimization import ConstantSchedule, CosineSchedule, ScheduleSettings
from mlctl.training.schedules import learning_rate


def test_a_constant_rate_is_constant() -> None:
    assert {learning_rate(ConstantSchedule(), 0.3, step, 50) for step in range(50)} == {0.3}


def test_the_warm_up_rises_in_equal_parts_and_ends_at_the_height() -> None:
    rates = [learning_rate(ConstantSchedule(warmup=0.4), 0.5, step, 10) for step in range(6)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.5])


def test_a_cosine_without_warm_up_is_torchs_own() -> None:
    total, height, floor = 40, 0.2, 0.1
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=height)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=total, eta_min=floor * height)
    for step in range(total):
        found = learning_rate(CosineSchedule(floor=floor), height, step, total)
        assert found == pytest.approx(scheduler.get_last_lr()[0], rel=1e-12)  # both in double precision
        optimizer.step()
        scheduler.step()


def test_a_cosine_after_a_warm_up_starts_high_and_passes_the_middle_at_half_height() -> None:
    schedule = CosineSchedule(warmup=0.2)
    assert learning_rate(schedule, 1.0, 20, 100) == 1.0
    assert learning_rate(schedule, 1.0, 60, 100) == pytest.approx(0.5)
    # One step of 80 before the end: (1 + cos(79/80 π)) / 2.
    assert learning_rate(schedule, 1.0, 99, 100) == pytest.approx(3.8545e-4, rel=1e-4)


shares = st.floats(0, 0.99)


@given(
    schedule=st.builds(ConstantSchedule, warmup=shares) | st.builds(CosineSchedule, warmup=shares, floor=shares),
    total=st.integers(1, 1000),
)
def test_no_step_is_without_a_rate_and_none_is_above_the_height(schedule: ScheduleSettings, total: int) -> None:
    rates = [learning_rate(schedule, 0.1, step, total) for step in range(total)]
    assert all(0 < rate <= 0.1 * (1 + 1e-12) for rate in rates)
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
