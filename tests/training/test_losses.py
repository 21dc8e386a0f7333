from math import inf, nan

import pytest
import torch

from mlctl.training.losses import EpochLosses


def losses_of(*values: float, sizes: tuple[int, ...]) -> EpochLosses:
    losses = EpochLosses(sizes, torch.device("cpu"))
    for step, value in enumerate(values):
        losses.put(step, torch.tensor(value))
    return losses


def test_the_mean_is_that_of_samples_not_of_steps() -> None:
    assert losses_of(1.0, 2.0, 8.0, sizes=(4, 4, 2)).mean() == pytest.approx(2.8)


@pytest.mark.parametrize("strange", [nan, inf, -inf])
def test_the_first_loss_that_is_no_number_is_found_among_the_steps_done(strange: float) -> None:
    losses = losses_of(1.0, strange, 2.0, strange, sizes=(1, 1, 1, 1))
    assert losses.first_not_finite(4) == 1
    assert losses.first_not_finite(1) is None


def test_the_latest_loss_can_be_shown() -> None:
    assert losses_of(1.0, 2.5, sizes=(1, 1)).latest(1) == 2.5
