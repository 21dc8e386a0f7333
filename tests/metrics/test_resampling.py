"""Draws, and figures of draws."""

from time import process_time

import numpy as np
import pytest

from mlctl.metrics.classification import classification_figure
from mlctl.metrics.resampling import RESAMPLES, draws, replicates, resampled


def test_draws_are_the_same_again_and_other_for_another_seed() -> None:
    first, again, other = (np.concatenate(list(draws(50, seed=seed))) for seed in (1, 1, 2))
    assert first.shape == (RESAMPLES, 50)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_draws_take_every_sample_equally_often() -> None:
    counts = np.bincount(np.concatenate(list(draws(100, seed=3))).ravel(), minlength=100)
    # Each of 100 samples is drawn 2,000 times on average, deviation 45: 6 deviations off is less likely than 1e-6.
    assert counts.min() > 2000 - 6 * 45
    assert counts.max() < 2000 + 6 * 45


def test_draws_of_many_samples_come_in_small_chunks() -> None:
    sizes = [chunk.size for chunk in draws(100_000, seed=0, count=20)]
    assert sum(sizes) == 20 * 100_000
    assert max(sizes) <= 1 << 19


def test_replicates_of_two_models_are_paired() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 3, 60)
    probabilities = generator.dirichlet(np.ones(3), 60)
    same = replicates("f1", probabilities, targets, seed=5) - replicates("f1", probabilities.copy(), targets, seed=5)
    assert np.array_equal(same, np.zeros(RESAMPLES))


def test_resampled_finds_the_figure_of_either_task_by_name() -> None:
    indices = np.arange(4)[None]
    targets = np.array([0, 1, 1, 0])
    probabilities = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.6, 0.4]])
    assert resampled("accuracy", probabilities, targets, indices).tolist() == [0.75]
    assert resampled("mae", np.zeros(4), targets, indices).tolist() == [0.5]
    with pytest.raises(ValueError, match="'nothing' is not"):
        resampled("nothing", probabilities, targets, indices)


def test_the_spread_of_replicates_is_the_standard_error_of_a_mean() -> None:
    generator = np.random.default_rng(4)
    targets = generator.integers(0, 5, 1000)
    probabilities = generator.dirichlet(np.ones(5), 1000)
    losses = -np.log(probabilities[np.arange(1000), targets])
    found = replicates("log_loss", probabilities, targets, seed=6)
    # The deviation of 2,000 replicates is itself known to 1/sqrt(4000) = 1.6 %; four of that.
    assert found.std() == pytest.approx(losses.std() / 1000**0.5, rel=0.065)
    assert found.mean() == pytest.approx(classification_figure("log_loss", probabilities, targets), rel=0.01)


def test_an_interval_of_the_slowest_figure_costs_seconds_at_most() -> None:
    generator = np.random.default_rng(0)
    targets = generator.integers(0, 10, 10_000)
    probabilities = generator.dirichlet(np.ones(10), 10_000)
    start = process_time()
    replicates("f1", probabilities, targets, seed=0)
    # 0.4 s of CPU where this was written; scikit-learn in a loop takes 8 s.
    assert process_time() - start < 3
