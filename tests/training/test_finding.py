from math import inf, log10, nan
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from small_fits import CPU, TRANSFORMER, Classification, NextToken, patterns, small_model, small_settings, text
from torch import Tensor

from mlctl.errors import Diverged
from mlctl.events import Event, Progress, silent
from mlctl.recipe.optimization import AdamWSettings, MuonSettings, OptimizerSettings, SgdSettings
from mlctl.training.finding import HIGHEST, LOWEST, STEPS, Found, find_learning_rate, range_test


def valley(step: int, rate: float) -> float:
    """Flat, then falling most steeply at 1e-3, least at 1e-2, and far above everything from 1 on."""
    log = log10(rate)
    fallen = 1 / (1 + 10 ** (-2 * (log + 3)))
    return 2.5 - 2 * fallen + 10 ** (3 * log)


def test_the_suggestion_stands_where_the_loss_falls_fastest() -> None:
    found = range_test(valley)
    assert found.suggestion is not None
    # Smoothing looks back over ten of a hundred steps of 0.08 decades.
    assert 1e-3 <= found.suggestion <= 1e-3 * 10**0.8
    assert found.reason.startswith("the loss falls fastest there; the loss is least at 0.")
    assert ", and has blown up at " in found.reason


def test_rates_grow_by_one_factor_and_end_where_the_loss_blows_up() -> None:
    found = range_test(valley)
    assert found.rates[0] == LOWEST
    factor = (HIGHEST / LOWEST) ** (1 / (STEPS - 1))
    assert [b / a for a, b in zip(found.rates, found.rates[1:], strict=False)] == pytest.approx(
        [factor] * (len(found.rates) - 1)
    )
    assert found.rates[-1] < HIGHEST
    assert found.smoothed[-1] > 4 * min(found.smoothed)
    assert found.smoothed[-2] <= 4 * min(found.smoothed)
    assert found.losses == tuple(valley(0, rate) for rate in found.rates)


def test_the_smoothed_loss_is_the_weighted_mean_of_all_before() -> None:
    losses = [3.0, 1.0, 4.0, 1.0, 5.0]
    found = range_test(lambda step, rate: losses[step], steps=5)
    for last in range(5):
        weights = [0.9 ** (last - step) for step in range(last + 1)]
        mean = sum(w * loss for w, loss in zip(weights, losses, strict=False)) / sum(weights)
        assert found.smoothed[last] == pytest.approx(mean, rel=1e-12)


def test_a_loss_that_never_falls_gets_no_suggestion_and_a_reason() -> None:
    found = range_test(lambda step, rate: 2.3 + 0.01 * (step % 2) + rate)
    assert found.suggestion is None
    assert "never falls by 2%" in found.reason


def test_a_loss_that_falls_too_soon_for_a_slope_gets_a_tenth_of_the_best_rate() -> None:
    sudden = range_test(lambda step, rate: (2.0, 0.1, 0.1, 0.1)[step] if step < 4 else 9.0)
    assert sudden.suggestion == pytest.approx(sudden.rates[3] / 10)
    assert sudden.reason.startswith("a tenth of the rate at which the loss is least at ")


def test_a_loss_that_bears_every_rate_is_said_to() -> None:
    found = range_test(lambda step, rate: 2.0 - step / 100)
    assert len(found.rates) == STEPS
    assert found.rates[-1] == pytest.approx(HIGHEST)
    assert found.reason.endswith("and has not blown up at 10")


@pytest.mark.parametrize("strange", [nan, inf, -inf])
def test_a_loss_that_is_no_number_ends_the_test(strange: float) -> None:
    found = range_test(lambda step, rate: strange if step == 40 else 2.0 - step / 100)
    assert len(found.losses) == 40
    with pytest.raises(Diverged, match="before anything was learnt"):
        range_test(lambda step, rate: strange)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=100))
def test_whatever_the_losses_are_there_is_a_suggestion_within_the_rates_or_none(losses: list[float]) -> None:
    found = range_test(lambda step, rate: losses[step], steps=len(losses))
    assert len(found.rates) == len(found.losses) == len(found.smoothed) <= len(losses)
    assert found.suggestion is None or LOWEST / 10 <= found.suggestion <= HIGHEST
    assert found.reason


def find(optimizer: OptimizerSettings, seed: int = 0, **changes: Any) -> Found:
    settings = small_settings(optimizer=optimizer, **changes)
    return find_learning_rate(
        small_model(), patterns(200, 1), Classification(), settings, seed=seed, device=CPU, tell=silent
    )


@pytest.mark.parametrize("optimizer", [SgdSettings(), AdamWSettings(), MuonSettings()], ids=lambda each: each.name)
def test_the_same_seed_finds_the_same_rates_bit_for_bit(optimizer: OptimizerSettings) -> None:
    first = find(optimizer)
    assert find(optimizer) == first
    assert find(optimizer, seed=1).losses != first.losses


def test_the_recipes_own_rate_and_schedule_and_epochs_change_nothing() -> None:
    first = find(AdamWSettings())
    changed = find(AdamWSettings(lr=0.5), epochs=1, schedule={"name": "cosine", "warmup": 0.5}, ema=0.9)
    assert changed == first


def test_the_suggested_rate_learns() -> None:
    """The patterns of three classes can be told apart; who knows nothing has a loss of log 3 = 1.1."""
    found = find(AdamWSettings())
    assert found.suggestion is not None
    model = small_model()
    optimizer = torch.optim.AdamW(model.network.parameters(), lr=found.suggestion)
    images, classes = (torch.from_numpy(each) for each in (patterns(200, 1).inputs[0], patterns(200, 1).targets))
    for _ in range(60):
        loss: Tensor = Classification().loss(model.raw_outputs(images), classes)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert float(loss.detach()) < 0.5


def test_every_step_is_told_of_and_global_chance_is_left_alone() -> None:
    told: list[Event] = []
    before = torch.get_rng_state()
    model = small_model()
    state = torch.get_rng_state()
    found = find_learning_rate(
        model, patterns(40, 1), Classification(), small_settings(), seed=0, device=CPU, tell=told.append
    )
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)
    steps = [event.done for event in told if isinstance(event, Progress)]
    assert steps == list(range(1, len(found.rates) + 1))
    assert not model.training


def test_a_language_model_has_its_rates_tried_too() -> None:
    settings = small_settings()
    found = find_learning_rate(
        small_model(TRANSFORMER), text(200, 1), NextToken(), settings, seed=0, device=CPU, tell=silent
    )
    assert found.suggestion is not None
    assert found.losses[0] == pytest.approx(1.95, abs=0.2)  # log 7: nothing is known yet of seven tokens
