"""Answers over a split, batch by batch."""

from pathlib import Path

import numpy as np
import pytest

from mlctl.errors import DataError, StepFailed
from mlctl.runtime.answers import Arrays, answer, first_rows

ROWS = np.arange(46, dtype=np.float32).reshape(23, 2)


def total(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.asarray(sum(each.sum(axis=1) for each in inputs), np.float32)


@pytest.mark.parametrize("batch", [1, 5, 23, 100])
def test_every_row_is_answered_in_order(batch: int) -> None:
    found = answer(total, (ROWS, 2 * ROWS), batch)
    assert found.dtype == np.float32
    assert found.tolist() == (3 * ROWS.sum(axis=1)).tolist()


def test_no_batch_is_larger_than_asked() -> None:
    sizes: list[int] = []

    def spy(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        sizes.append(len(inputs[0]))
        return total(inputs)

    answer(spy, (ROWS,), 10)
    assert sizes == [10, 10, 3]


def test_answers_from_a_memory_map_go_into_a_file_that_numpy_reads(tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", ROWS)
    rows = np.load(tmp_path / "rows.npy", mmap_mode="r")
    found = answer(lambda inputs: np.stack([total(inputs)] * 3, axis=1), (rows,), 4, tmp_path / "answers.npy")
    assert isinstance(found, np.memmap)
    stored = np.load(tmp_path / "answers.npy", allow_pickle=False)
    assert stored.shape == (23, 3)
    assert stored[:, 2].tolist() == ROWS.sum(axis=1).tolist()


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows to answer"):
        answer(total, (ROWS[:0],), 4)


def test_a_model_that_loses_rows_is_found_out() -> None:
    with pytest.raises(StepFailed, match=r"answered 4 rows with an array of shape \[1\]"):
        answer(lambda inputs: total(inputs)[:1], (ROWS,), 4)


def test_the_first_answer_that_is_not_finite_is_named() -> None:
    def breaks(inputs: Arrays) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        sums = total(inputs)
        sums[inputs[0][:, 0] == 14] = np.nan
        return sums

    with pytest.raises(StepFailed, match="row 7 is not a finite number"):
        answer(breaks, (ROWS,), 4)


def test_first_rows_start_again_where_there_are_too_few() -> None:
    (rows,) = first_rows((ROWS,), 25)
    assert rows[:, 0].tolist() == [*ROWS[:, 0].tolist(), 0, 2]
    assert rows.flags.c_contiguous
