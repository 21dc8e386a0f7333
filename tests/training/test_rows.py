from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from small_fits import CPU

from mlctl.training import rows
from mlctl.training.rows import (
    MappedRows,
    MappedWindows,
    ResidentRows,
    ResidentWindows,
    Rows,
    rows_of,
    windows_of,
)


def on_disk(folder: Path, array: NDArray[Any]) -> NDArray[Any]:
    np.save(folder / "rows.npy", array)
    mapped: NDArray[Any] = np.load(folder / "rows.npy", mmap_mode="r", allow_pickle=False)
    return mapped


def taken(source: Rows, places: NDArray[np.int64]) -> torch.Tensor:
    return source.take(places, torch.from_numpy(places))


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("uint8", (3, 4, 4)), ("float32", (5,)), ("int64", ()), ("float64", (2, 2)), ("int8", (1,)), ("bool", (2,))],
)
def test_mapped_rows_are_the_resident_rows(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(0)
    mapped = on_disk(tmp_path, random.integers(0, 100, (40, *shape)).astype(dtype))
    order = random.permutation(40)[:17]
    for source in (MappedRows(mapped, CPU), ResidentRows(mapped, CPU)):
        found = taken(source, order)
        assert found.dtype == torch.from_numpy(np.empty(0, dtype)).dtype
        assert torch.equal(found, torch.from_numpy(np.array(mapped[order])))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
@pytest.mark.parametrize("shape", [(), (3,)])
def test_numbers_that_torch_can_do_little_with_become_int64(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    largest = np.iinfo(dtype).max
    random = np.random.default_rng(0)
    mapped = on_disk(tmp_path, random.integers(largest - 1000, largest, (40, *shape), endpoint=True).astype(dtype))
    order = random.permutation(40)[:17]
    for source in (MappedRows(mapped, CPU), ResidentRows(mapped, CPU)):
        found = taken(source, order)
        assert found.dtype == torch.int64
        assert found.tolist() == mapped[order].tolist()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "int64"])
def test_windows_are_pieces_of_the_stream(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(0)
    stream = on_disk(tmp_path, random.integers(0, np.iinfo(dtype).max, 90, dtype=dtype))
    places = np.array([70, 3, 4, 81, 0, 3])
    for source in (MappedWindows(stream, 9, CPU), ResidentWindows(stream, 9, CPU)):
        found = taken(source, places)
        assert found.dtype == torch.int64
        assert found.tolist() == [stream[place : place + 9].tolist() for place in places]


def test_what_is_too_large_stays_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.zeros(50, np.int64)
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 400)
    assert isinstance(rows_of(array, CPU), ResidentRows)
    assert isinstance(windows_of(array, 3, CPU), ResidentWindows)
    monkeypatch.setattr(rows, "RESIDENT_BYTES", 399)
    assert isinstance(rows_of(array, CPU), MappedRows)
    assert isinstance(windows_of(array, 3, CPU), MappedWindows)
