"""Figures of a language model, from sums over windows."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import logsumexp

from mlctl.metrics.language_modeling import (
    LANGUAGE_MODELING_FIGURES,
    characters_of,
    language_modeling_figure,
    language_modeling_resampler,
    window_totals,
)
from mlctl.metrics.resampling import bootstrapped, draws

CHARACTERS = np.array([1, 2, 0, 5, 1], np.int32)


def windows(seed: int, *shape: int, scale: float = 3.0) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16]]:
    """Logits [B, T, 5] and the tokens that come next [B, T]."""
    dice = np.random.default_rng(seed)
    return dice.normal(0, scale, (*shape, 5)).astype(np.float32), dice.integers(0, 5, shape).astype(np.uint16)


def expected(logits: npt.NDArray[Any], targets: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """The totals by their definition, in float64."""
    wide = logits.astype(np.float64)
    own = np.take_along_axis(wide, targets[..., None].astype(np.int64), axis=2)[..., 0]
    nats = logsumexp(wide, axis=2) - own
    right = wide.argmax(axis=2) == targets
    tokens = np.full(len(targets), targets.shape[1])
    return np.stack([nats.sum(1), right.sum(1), tokens, CHARACTERS[targets].sum(1)], axis=1)


@given(st.integers(0, 99), st.integers(1, 4), st.integers(1, 7), st.sampled_from([0.01, 1.0, 30.0, 1e4]))
def test_totals_are_those_of_float64(seed: int, batch: int, length: int, scale: float) -> None:
    logits, targets = windows(seed, batch, length, scale=scale)
    found = window_totals(logits, targets, CHARACTERS)
    assert found.dtype == np.float64
    # Five exponentials and their sum in float32: some 2e-7 of a nat at each of at most 7 places; and what is left of
    # a loss of thousands in float64.
    np.testing.assert_allclose(found, expected(logits, targets), rtol=1e-12, atol=7 * 1e-6)


def test_totals_do_not_depend_on_how_windows_are_cut_into_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, targets = windows(1, 23, 6)
    whole = window_totals(logits, targets, CHARACTERS)
    for size in (1, 2, 7):
        starts = range(0, 23, size)
        parts = [window_totals(logits[at : at + size], targets[at : at + size], CHARACTERS) for at in starts]
        assert np.array_equal(np.concatenate(parts), whole)
    monkeypatch.setattr("mlctl.metrics.language_modeling._CHUNK_NUMBERS", 9)
    assert np.array_equal(window_totals(logits, targets, CHARACTERS), whole)


def test_of_equal_logits_the_first_is_the_answer() -> None:
    found = window_totals(np.zeros((1, 2, 5), np.float32), np.array([[0, 1]]), CHARACTERS)
    assert found[0, 1:].tolist() == [1, 2, 3]
    assert found[0, 0] == pytest.approx(2 * math.log(5))


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_logits_of_other_widths_are_taken(dtype: type[np.floating[Any]]) -> None:
    logits, targets = windows(2, 3, 4)
    found = window_totals(logits.astype(dtype), targets, CHARACTERS)
    # float16 keeps 11 bits of a logit of up to 10.
    np.testing.assert_allclose(found, expected(logits, targets), atol=4 * (1e-2 if dtype == np.float16 else 1e-6))


def test_characters_are_those_that_begin_in_a_windows_tokens() -> None:
    assert characters_of(np.array([[0, 1], [3, 2]], np.uint8), CHARACTERS).tolist() == [3, 5]


def test_figures_are_ratios_of_sums_over_all_windows() -> None:
    totals = np.array([[math.log(2) * 6, 2, 4, 6], [math.log(2) * 4, 4, 4, 2]])
    found = {name: language_modeling_figure(name, totals) for name in LANGUAGE_MODELING_FIGURES}
    assert found == pytest.approx(
        {"loss": math.log(2) * 10 / 8, "perplexity": 2 ** (10 / 8), "bits_per_character": 10 / 8, "accuracy": 6 / 8}
    )


def test_a_uniform_guess_costs_the_logarithm_of_the_vocabulary() -> None:
    logits, targets = np.zeros((7, 16, 27), np.float32), np.random.default_rng(0).integers(0, 27, (7, 16))
    totals = window_totals(logits, targets, np.ones(27, np.int32))
    assert language_modeling_figure("bits_per_character", totals) == pytest.approx(math.log2(27), abs=1e-6)
    assert language_modeling_figure("perplexity", totals) == pytest.approx(27, abs=1e-4)


@pytest.mark.parametrize("name", LANGUAGE_MODELING_FIGURES)
def test_resamples_are_figures_of_the_windows_that_were_drawn(name: str) -> None:
    totals = window_totals(*windows(3, 40, 5), CHARACTERS)
    found = bootstrapped(language_modeling_resampler(name, totals), 40, seed=4)
    drawn = np.concatenate(list(draws(40, seed=4)))
    assert found == pytest.approx([language_modeling_figure(name, totals[each]) for each in drawn], rel=1e-12)


def test_another_name_is_refused() -> None:
    for ask in (language_modeling_figure, language_modeling_resampler):
        with pytest.raises(ValueError, match="'f1' is not one of bits_per_character"):
            ask("f1", np.ones((2, 4)))
