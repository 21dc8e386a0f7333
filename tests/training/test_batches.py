from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mlctl.errors import DataError
from mlctl.training import batches
from mlctl.training.batches import Batches, MappedRows, ResidentRows, Samples

CPU = torch.device("cpu")


def numbered(count: int) -> Samples:
    numbers = np.arange(count)
    return Samples((np.stack([numbers, -numbers], 1).astype(np.float32),), numbers.astype(np.int64))


@settings(deadline=None)
@given(count=st.integers(1, 300), size=st.integers(1, 100), epoch=st.integers(0, 3))
def test_an_epoch_visits_every_sample_once_with_its_own_target(count: int, size: int, epoch: int) -> None:
    made = list(Batches(numbered(count), size, CPU).shuffled(seed=9, epoch=epoch))
    targets = torch.cat([batch.targets for batch in made])
    assert sorted(targets.tolist()) == list(range(count))
    for batch in made:
        assert torch.equal(batch.inputs[0], torch.stack([batch.targets, -batch.targets], 1).float())


@given(count=st.integers(1, 10**6), size=st.integers(2, 10**5))
def test_all_batches_are_full_but_the_last_and_none_holds_a_lone_sample(count: int, size: int) -> None:
    sizes = Batches(Samples((), np.zeros(count, np.int8)), size, CPU).sizes
    assert sum(sizes) == count
    assert all(each == size for each in sizes[:-1])
    assert count == 1 or 1 < sizes[-1] <= size + 1


def test_batches_of_one_stay_batches_of_one() -> None:
    assert Batches(numbered(3), 1, CPU).sizes == (1, 1, 1)


def targets_of(made: Batches, seed: int, epoch: int, first: int = 0) -> list[list[int]]:
    return [batch.targets.tolist() for batch in made.shuffled(seed, epoch, first)]


def test_seed_and_epoch_alone_decide_the_order() -> None:
    made = Batches(numbered(50), 8, CPU)
    assert targets_of(made, 3, 1) == targets_of(Batches(numbered(50), 8, CPU), 3, 1)
    assert targets_of(made, 3, 1) != targets_of(made, 3, 2)
    assert targets_of(made, 3, 1) != targets_of(made, 4, 1)
    assert targets_of(made, 3, 1, first=4) == targets_of(made, 3, 1)[4:]


def test_validation_goes_through_the_samples_in_order() -> None:
    joined = torch.cat([batch.targets for batch in Batches(numbered(50), 8, CPU).in_order()])
    assert joined.tolist() == list(range(50))


@pytest.mark.parametrize(
    ("dtype", "shape"), [("uint8", (3, 4, 4)), ("float32", (5,)), ("int64", ()), ("float64", (2, 2)), ("int8", (1,))]
)
def test_mapped_rows_are_the_resident_rows(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    path = tmp_path / "rows.npy"
    np.save(path, random.integers(0, 100, (40, *shape)).astype(dtype))
    mapped: NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    order = random.permutation(40)[:17]
    found = MappedRows(mapped, CPU).take(order, torch.from_numpy(order))
    expected = ResidentRows(mapped, CPU).take(order, torch.from_numpy(order))
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    assert torch.equal(found, torch.from_numpy(np.array(mapped[order])))


def test_an_array_too_large_for_the_device_stays_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "RESIDENT_BYTES", 400)
    samples = numbered(50)  # 400 bytes of each, inputs and targets
    assert isinstance(Batches(samples, 8, CPU).targets, ResidentRows)
    monkeypatch.setattr(batches, "RESIDENT_BYTES", 399)
    mapped = Batches(samples, 8, CPU)
    assert isinstance(mapped.targets, MappedRows)
    monkeypatch.undo()
    assert targets_of(mapped, 1, 0) == targets_of(Batches(samples, 8, CPU), 1, 0)


def test_samples_must_be_there_and_have_targets() -> None:
    with pytest.raises(DataError, match=r"differ in length: \[3, 2\]"):
        Samples((np.zeros((3, 1)),), np.zeros(2))
    with pytest.raises(DataError, match="no samples"):
        Samples((np.zeros((0, 1)),), np.zeros(0))
