from math import inf, nan

import pytest
import torch

from mlctl.training.losses import CHECK_STEPS, GROWTH, EpochLosses, Trouble


def losses_of(*values: float, sizes: tuple[int, ...] | None = None, lengths: tuple[float, ...] = ()) -> EpochLosses:
    losses = EpochLosses(sizes or (1,) * len(values), torch.device("cpu"))
    for step, value in enumerate(values):
        losses.put(step, torch.tensor(value), torch.tensor(lengths[step]) if lengths else None)
        if step == 0:
            losses.put_first()
    return losses


def test_the_mean_is_that_of_samples_not_of_steps() -> None:
    assert losses_of(1.0, 2.0, 8.0, sizes=(4, 4, 2)).mean() == pytest.approx(2.8)


@pytest.mark.parametrize("strange", [nan, inf, -inf])
def test_the_first_loss_that_is_no_number_is_found_among_the_steps_done(strange: float) -> None:
    losses = losses_of(1.0, strange, 2.0, strange)
    assert losses.strange(1) is None
    assert losses.strange(4) == Trouble(1, "the loss is not a finite number")


def test_a_gradient_without_an_end_is_found_where_its_loss_is_a_number() -> None:
    losses = losses_of(1.0, 1.0, nan, lengths=(3.0, inf, 1.0))
    assert losses.strange(3) == Trouble(1, "the length of the gradient is not a finite number")


def test_steps_are_looked_at_once() -> None:
    losses = losses_of(*[1.0] * 6)
    assert losses.strange(3) is None
    losses.put(1, torch.tensor(nan))
    losses.put(4, torch.tensor(nan))
    assert losses.strange(6) == Trouble(4, "the loss is not a finite number")
    losses.begin_epoch()
    assert losses.strange(6) == Trouble(1, "the loss is not a finite number")


def test_the_latest_loss_can_be_shown() -> None:
    assert losses_of(1.0, 2.5).latest(1) == 2.5


def grown(first: float, *last: float) -> Trouble | None:
    """What is found at the end of an epoch that begins with `first` and ends with `last`."""
    losses = losses_of(first, *[first] * CHECK_STEPS, *last)
    return losses.grown(1 + CHECK_STEPS + len(last))


def test_a_loss_that_has_grown_for_most_of_the_last_steps_is_found() -> None:
    most = CHECK_STEPS // 2 + 1
    trouble = grown(2.3, *[2.4 * GROWTH] * most)
    assert trouble == Trouble(CHECK_STEPS + most, "the loss has grown from 2.3 at the first step to 240")
    assert grown(2.3, *[2.2 * GROWTH] * most) is None


def test_single_steps_may_be_as_bad_as_they_like() -> None:
    assert grown(2.3, *[1e30] * (CHECK_STEPS // 2 - 1)) is None


def test_what_begins_with_good_weights_may_lose_them() -> None:
    """A training that goes on from a loss of 1e-5 has not diverged at the loss of knowing nothing."""
    assert grown(1e-5, *[2.3] * CHECK_STEPS) is None
    assert grown(1e-5, *[1.1 * GROWTH] * CHECK_STEPS) is not None


def test_a_short_epoch_is_looked_at_as_far_as_it_goes() -> None:
    assert losses_of(1.0, 500.0, 500.0).grown(3) is not None
    assert losses_of(1.0, 1.0, 500.0).grown(3) is None


def test_all_of_it_can_be_kept_and_taken_over() -> None:
    losses = losses_of(1.5, 2.0, lengths=(0.1, 0.2))
    other = EpochLosses((1, 1), torch.device("cpu"))
    other.load({name: each.clone() for name, each in losses.state().items()})
    assert all(torch.equal(each, losses.state()[name]) for name, each in other.state().items())
    assert float(other.first) == 1.5
