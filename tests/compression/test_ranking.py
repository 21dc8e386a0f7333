"""The smallest of many numbers, by a reference that sorts pairs of number and position."""

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlctl.compression.pruning.ranking import ranks, smallest

# Few different numbers, so that most are equal to others.
TIED = arrays(np.float32, st.integers(1, 40), elements=st.sampled_from([0.0, 0.5, 1.0, 2.0, np.inf]))


@given(TIED, st.data())
def test_so_many_are_taken_and_of_equal_ones_the_first(numbers: npt.NDArray[np.float32], data: st.DataObject) -> None:
    count = data.draw(st.integers(0, len(numbers)))
    found = smallest(torch.from_numpy(numbers), count).numpy()
    pairs = sorted((float(number), place) for place, number in enumerate(numbers))
    assert np.flatnonzero(found).tolist() == sorted(place for _, place in pairs[:count])


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.sampled_from([0.0, 1.0, 2.0])))
def test_ranks_count_along_one_axis_alone(numbers: npt.NDArray[np.float32]) -> None:
    found = ranks(torch.from_numpy(numbers), 1).numpy()
    for row, places in zip(numbers, found, strict=True):
        pairs = sorted((float(number), place) for place, number in enumerate(row))
        assert [places[place] for _, place in pairs] == list(range(len(row)))
    assert (ranks(torch.from_numpy(numbers.T.copy()), 0).numpy() == found.T).all()


def test_positions_are_those_of_the_shape_and_not_of_the_memory() -> None:
    numbers = torch.ones(2, 3, 4, 5)
    other = numbers.to(memory_format=torch.channels_last)
    assert torch.equal(smallest(numbers, 31), smallest(other, 31))
    assert smallest(other, 31).flatten().nonzero().flatten().tolist() == list(range(31))


@pytest.mark.parametrize("count", [-1, 4])
def test_more_than_there_are_is_a_mistake(count: int) -> None:
    with pytest.raises(ValueError, match="of 3 numbers"):
        smallest(torch.zeros(3), count)
