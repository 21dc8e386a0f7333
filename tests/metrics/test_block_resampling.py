"""Rounds drawn again in blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.metrics.block_resampling import block_draws, mean_of, percentile_of, round_replicates
from mlctl.metrics.resampling import RESAMPLES, percentile_replicates


@given(rounds=st.integers(1, 300), seed=st.integers(0, 1000))
def test_draws_are_whole_blocks_of_neighbours(rounds: int, seed: int) -> None:
    drawn = np.concatenate(list(block_draws(rounds, seed=seed, count=7)))
    assert drawn.shape == (7, rounds)
    assert ((drawn >= 0) & (drawn < rounds)).all()
    length = int(np.ceil(rounds ** (1 / 3)))
    follows = np.diff(drawn, axis=1) % rounds == 1 % rounds
    ends_a_block = np.arange(1, rounds) % length == 0
    assert (follows | ends_a_block).all()


def test_the_same_seed_gives_the_same_draws() -> None:
    first, second, other = (np.concatenate(list(block_draws(20, seed=seed))) for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_every_round_is_drawn_equally_often() -> None:
    drawn = np.concatenate(list(block_draws(10, seed=3, count=20_000)))
    shares = np.bincount(drawn.ravel(), minlength=10) / drawn.size
    # 67,000 blocks: the share of one start is 0.1 with a deviation of 0.0012; each round is in four of the starts.
    assert np.abs(shares - 0.1).max() < 0.006


def test_figures_are_those_of_the_draws() -> None:
    values = np.random.default_rng(4).exponential(size=30)
    drawn = np.concatenate(list(block_draws(30, seed=5)))
    assert np.array_equal(round_replicates(values, mean_of, seed=5), values[drawn].mean(axis=1))
    medians = round_replicates(values, percentile_of(50), seed=5)
    assert medians.shape == (RESAMPLES,)
    assert medians == pytest.approx(np.median(values[drawn], axis=1))


def test_disturbances_that_last_widen_the_interval() -> None:
    """An autoregression of weight 0.9 has a mean that varies 19 times as much as that of independent rounds."""
    dice = np.random.default_rng(6)
    values = np.empty(1000)
    values[0] = 0.0
    for number in range(1, 1000):
        values[number] = 0.9 * values[number - 1] + dice.standard_normal()
    blocks = round_replicates(values, mean_of, seed=7).std()
    single = values.std() / np.sqrt(1000)
    # Blocks of ten catch most of the sum of correlations: (1 + 2 Σ (1 - k/10) 0.9^k, k = 1..9) ** 0.5 = 2.6.
    assert 2.0 < blocks / single < 3.2


def test_independent_rounds_get_the_interval_of_single_draws() -> None:
    values = np.random.default_rng(8).standard_normal(500)
    blocks = round_replicates(values, percentile_of(50), seed=9).std()
    single = percentile_replicates(values, 50, seed=9).std()
    # Two bootstraps of 2,000 draws of the same median; blocks add variance of their own, 500 / 8 of them.
    assert blocks == pytest.approx(single, rel=0.35)
