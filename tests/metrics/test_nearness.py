"""How near answers lie to another model's."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from sklearn.metrics.pairwise import cosine_similarity

from mlctl.metrics.intervals import figure_interval
from mlctl.metrics.nearness import cosine_similarities, nearness_figure, nearness_resampler
from mlctl.metrics.resampling import replicates

finite = st.floats(-1e3, 1e3, width=32).filter(lambda value: value == 0 or abs(value) > 1e-3)
answers_of_two = array_shapes(min_dims=2, max_dims=4, max_side=5).flatmap(
    lambda shape: st.tuples(*(arrays(np.float32, shape, elements=finite) for _ in range(2)))
)


@given(answers_of_two)
def test_cosines_are_those_of_scikit_learn(pair: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]) -> None:
    flat = [each.astype(np.float64).reshape(len(each), -1) for each in pair]
    expected = np.diag(cosine_similarity(*flat)).copy()
    are_zeros = ~flat[0].any(axis=1) & ~flat[1].any(axis=1)
    expected[are_zeros] = 1  # scikit-learn gives 0 for two rows of zeros, which are equal
    # Both are float64 sums of at most 125 products; each loses a few roundings of 1e-16.
    np.testing.assert_allclose(cosine_similarities(*pair), expected, atol=1e-13)


@given(answers_of_two)
def test_equal_answers_are_exactly_one_and_none_is_beyond(
    pair: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
) -> None:
    assert cosine_similarities(pair[0], pair[0].copy()).tolist() == [1.0] * len(pair[0])
    assert (np.abs(cosine_similarities(*pair)) <= 1).all()


def test_many_rows_come_in_chunks_with_the_same_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = np.random.default_rng(0).normal(size=(2, 50, 3, 4))
    whole = cosine_similarities(first, second)
    monkeypatch.setattr("mlctl.metrics.nearness._CHUNK_NUMBERS", 30)
    assert np.array_equal(cosine_similarities(first, second), whole)


def test_answers_of_other_shapes_have_no_angle() -> None:
    with pytest.raises(ValueError, match=r"\[4, 2\] have no angle to those of \[4, 3\]"):
        cosine_similarities(np.ones((4, 2)), np.ones((4, 3)))


def test_figures_by_hand() -> None:
    answers = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    targets = np.array([[2.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    cosines = [1, 0.5**0.5, -1]
    assert nearness_figure("cosine", answers, targets) == pytest.approx(sum(cosines) / 3)
    assert nearness_figure("worst_cosine", answers, targets) == -1
    indices = np.array([[0, 0, 0], [1, 1, 2]])
    found = nearness_resampler("cosine", answers, targets)(indices)
    assert found.tolist() == pytest.approx([1, (2 * 0.5**0.5 - 1) / 3])
    assert nearness_resampler("worst_cosine", answers, targets)(indices).tolist() == [1, -1]


@pytest.mark.parametrize("function", [nearness_figure, nearness_resampler])
def test_another_name_is_refused(function: object) -> None:
    with pytest.raises(ValueError, match="'accuracy' is not one of cosine, worst_cosine"):
        function("accuracy", np.ones((2, 2)), np.ones((2, 2)))  # type: ignore[operator]


def test_intervals_are_the_bootstrap_over_rows() -> None:
    generator = np.random.default_rng(2)
    targets = generator.normal(size=(200, 8))
    answers = targets + generator.normal(scale=0.5, size=targets.shape)
    cosines = cosine_similarities(answers, targets)
    drawn = replicates("cosine", answers, targets, seed=1)
    # The deviation of 2,000 replicates is itself known to 1/sqrt(4000) = 1.6 %; four of that.
    assert drawn.std() == pytest.approx(cosines.std() / 200**0.5, rel=0.065)
    mean = figure_interval("cosine", answers, targets, confidence=0.95, seed=0)
    assert mean.low < cosines.mean() < mean.high
    worst = figure_interval("worst_cosine", answers, targets, confidence=0.95, seed=0)
    assert worst.low == cosines.min() <= worst.high
