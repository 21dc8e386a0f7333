import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import DataError
from mlctl.training import rows
from mlctl.training.batches import Batches, Samples
from mlctl.training.places import Place
from mlctl.training.processes import Group

CPU = torch.device("cpu")


def numbered(count: int) -> Samples:
    numbers = np.arange(count)
    return Samples((np.stack([numbers, -numbers], 1).astype(np.float32),), numbers.astype(np.int64))


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


def test_data_that_stay_on_disk_make_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    resident = Batches(numbered(50), 8, CPU)
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 0)
    mapped = Batches(numbered(50), 8, CPU)
    assert (resident.is_resident, mapped.is_resident) == (True, False)
    assert targets_of(mapped, 1, 0) == targets_of(resident, 1, 0)
    assert targets_of(mapped, 1, 0, first=3) == targets_of(resident, 1, 0, first=3)


def test_samples_must_be_there_and_have_targets() -> None:
    with pytest.raises(DataError, match=r"differ in length: \[3, 2\]"):
        Samples((np.zeros((3, 1)),), np.zeros(2))
    with pytest.raises(DataError, match="no samples"):
        Samples((np.zeros((0, 1)),), np.zeros(0))
    with pytest.raises(DataError, match="3 windows of 4 tokens are more"):
        Samples((np.zeros((3, 4)),), np.zeros((3, 4)), stream=np.zeros(12))


def test_class_numbers_are_int64_whatever_they_are_stored_as() -> None:
    (batch,) = Batches(Samples((np.zeros((3, 1), np.uint8),), np.array([2, 0, 1], np.uint8)), 3, CPU).in_order()
    assert (batch.inputs[0].dtype, batch.targets.dtype) == (torch.uint8, torch.int64)
    (batch,) = Batches(Samples((), np.array([2, 0, 1], np.float32)), 3, CPU).in_order()
    assert batch.targets.dtype == torch.float32


def process(rank: int, count: int) -> Group:
    return Group(Place(rank, count, rank, count, "localhost", 1))


@given(count=st.integers(1, 60), size=st.integers(2, 20), processes=st.integers(1, 5), epoch=st.integers(0, 2))
def test_the_parts_of_all_processes_are_the_batch(count: int, size: int, processes: int, epoch: int) -> None:
    whole = list(Batches(numbered(count), size, CPU).shuffled(4, epoch))
    parts = [
        list(Batches(numbered(count), size, CPU, process(r, processes)).shuffled(4, epoch)) for r in range(processes)
    ]
    for number, batch in enumerate(whole):
        own = [each[number] for each in parts]
        assert torch.equal(torch.cat([each.targets for each in own if each.share]), batch.targets)
        assert [each.share * len(batch.targets) for each in own] == pytest.approx(
            [len(each.targets) if each.share else 0 for each in own]
        )
        assert all(len(each.targets) for each in own)


def numbered_text(tokens: int, context: int) -> Samples:
    """A text whose tokens are their own places."""
    stream = np.arange(tokens).astype(np.uint16)
    windows = (tokens - 1) // context
    inputs, targets = (stream[at : at + windows * context].reshape(windows, context) for at in (0, 1))
    return Samples((inputs,), targets, np.arange(windows), stream)


@given(context=st.integers(2, 9), windows=st.integers(1, 12), more=st.integers(0, 8), epoch=st.integers(0, 20))
def test_the_windows_of_a_text_move_from_epoch_to_epoch(context: int, windows: int, more: int, epoch: int) -> None:
    samples = numbered_text(windows * context + 1 + more % context, context)
    batches = list(Batches(samples, 4, CPU).shuffled(seed=6, epoch=epoch))
    inputs = torch.cat([batch.inputs[0] for batch in batches])
    targets = torch.cat([batch.targets for batch in batches])
    assert (inputs.dtype, targets.dtype) == (torch.int64, torch.int64)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(context))
    starts = sorted(inputs[:, 0].tolist())
    last = windows * context + more % context - context
    shift = starts[0] if windows > 1 else None
    if shift is not None:
        assert 0 <= shift < context
        # Windows follow one another; only the last may overlap the one before, to stay within the text.
        assert starts == [min(shift + number * context, last) for number in range(windows)]


def test_every_border_of_windows_is_as_likely() -> None:
    made = Batches(numbered_text(200, 4), 8, CPU)
    shifts = [min(batch.inputs[0].min().item() for batch in made.shuffled(3, epoch)) for epoch in range(200)]
    counts = np.bincount(np.array(shifts, int), minlength=4)
    # 50 each; four deviations of a binomial of 200 and 1/4 are 24.5.
    assert len(counts) == 4
    assert abs(counts - 50).max() <= 24


def test_a_text_is_validated_on_as_it_was_prepared() -> None:
    samples = numbered_text(51, 5)
    made = list(Batches(samples, 4, CPU).in_order())
    assert torch.cat([batch.inputs[0] for batch in made]).tolist() == samples.inputs[0].tolist()
    assert torch.cat([batch.targets for batch in made]).tolist() == samples.targets.tolist()


def test_a_batchs_rows_are_named_as_the_source_has_them() -> None:
    order = np.random.default_rng((3, 1)).permutation(20)
    samples = Samples((), np.zeros(20), rows=np.arange(20) * 10)
    first = ", ".join(str(10 * row) for row in order[8:13])
    said = Batches(samples, 8, CPU).said(3, 1, 1)
    assert said == f"rows {first} and 3 more of the source, counted from 0 as in `row.npy`"
    nowhere = ", ".join(map(str, np.random.default_rng((3, 0)).permutation(3)))
    assert Batches(Samples((), np.zeros(3)), 8, CPU).said(3, 0, 0) == f"samples {nowhere}"
    made = Batches(numbered_text(51, 5), 4, CPU)
    begins = next(made.shuffled(2, 5)).inputs[0][:, 0].tolist()
    assert made.said(2, 5, 0) == f"windows that begin at the split's tokens {', '.join(map(str, begins))}"
