"""Answers over a split, batch by batch."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlctl.errors import DataError, StepFailed
from mlctl.runtime.answers import Arrays, answer, first_rows, rows_within

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
    assert sizes == [1, 10, 10, 3]  # the first row alone, to see how large an answer is


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


def test_what_is_kept_takes_the_place_of_the_answers(tmp_path: Path) -> None:
    def largest(answers: np.ndarray[Any, Any], rows: slice) -> np.ndarray[Any, Any]:
        return np.stack([answers.max(axis=1), np.arange(rows.start, rows.stop)], axis=1)

    found = answer(lambda inputs: inputs[0], (ROWS,), 5, tmp_path / "kept.npy", largest)
    assert found.tolist() == [[2 * row + 1, row] for row in range(23)]
    assert np.load(tmp_path / "kept.npy").shape == (23, 2)


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [
        ({"BATCH_BYTES": 4 * 6 * 4}, [4] * 5 + [3]),
        ({"BATCH_PLACES": 6}, [2] * 11 + [1]),
        ({"BATCH_BYTES": 1}, [1] * 23),
    ],
)
def test_rows_with_large_answers_come_in_smaller_batches(
    monkeypatch: pytest.MonkeyPatch, limit: dict[str, int], sizes: list[int]
) -> None:
    """Answers of three places with two numbers each, float32."""
    for name, value in limit.items():
        monkeypatch.setattr(f"mlctl.runtime.answers.{name}", value)
    met: list[int] = []

    def places(inputs: Arrays) -> np.ndarray[Any, Any]:
        met.append(len(inputs[0]))
        return np.repeat(inputs[0][:, None], 3, axis=1)

    found = answer(places, (ROWS,), 100)
    assert met == [1, *sizes]
    assert np.array_equal(found, np.repeat(ROWS[:, None], 3, axis=1))


def test_how_many_rows_hold_so_many_numbers() -> None:
    assert [rows_within(lambda inputs: inputs[0], (ROWS,), numbers) for numbers in (1, 2, 9, 100)] == [1, 1, 4, 50]
    with pytest.raises(DataError, match="no rows"):
        rows_within(total, (ROWS[:0],), 9)
