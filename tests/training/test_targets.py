"""Targets that cannot be learnt: found before a training begins, and named by their rows in the source."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlctl.errors import DataError
from mlctl.training import targets
from mlctl.training.batches import Samples
from mlctl.training.targets import require_learnable

ROWS = np.arange(50) * 3 + 1


def with_one(value: float, place: int, dtype: str) -> Samples:
    numbers: NDArray[Any] = np.ones(50, dtype)
    numbers[place] = value
    return Samples((), numbers, ROWS)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@given(place=st.integers(0, 49), value=st.sampled_from([-1, 4, 2**40]))
def test_a_class_that_does_not_exist_is_named_by_its_row(chunk: int, place: int, value: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(targets, "CHUNK", chunk)
        with pytest.raises(DataError) as refusal:
            require_learnable(with_one(value, place, "int64"), 4, "train")
    assert refusal.value.exit_code == 3
    assert refusal.value.what == (
        f"the target of row {3 * place + 1} of the source (counted from 0, in the train split) is {value}, and the "
        "model has outputs for 0 to 3"
    )
    assert "mlctl run --force prepare" in refusal.value.next


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_not_finite_is_named_by_its_row(value: float) -> None:
    with pytest.raises(DataError, match=r"row 22 of the source .* is (nan|-?inf), which is not a finite number"):
        require_learnable(with_one(value, 7, "float32"), 1, "validation")


def test_a_token_that_does_not_exist_is_named_by_its_place_in_the_text() -> None:
    stream = np.zeros(21, np.uint16)
    stream[20] = 300
    samples = Samples((stream[:20].reshape(5, 4),), stream[1:].reshape(5, 4), np.arange(5), stream)
    with pytest.raises(DataError, match="token 20 of the test split is 300, and the model has"):
        require_learnable(samples, 300, "test")


def test_several_targets_a_row_are_looked_at_one_by_one() -> None:
    numbers = np.zeros((6, 3), np.int64)
    numbers[4, 1] = 9
    with pytest.raises(DataError, match=r"row 4 of the source .* is 9"):
        require_learnable(Samples((), numbers), 9, "train")


@given(outputs=st.integers(1, 200))
def test_what_can_be_learnt_passes(outputs: int) -> None:
    require_learnable(Samples((), np.arange(outputs)), outputs, "train")
    require_learnable(Samples((), np.arange(outputs).astype(np.uint8)), outputs, "train")
    require_learnable(Samples((), np.linspace(-1e30, 1e30, outputs)), 1, "train")
