"""Prepared data, opened: arrays mapped from disk, checked against their description."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlctl.data.arrays import ROW_FILE, TARGET_FILE
from mlctl.data.description import FILE_NAME, DataDescription
from mlctl.errors import ArtifactDamaged
from mlctl.recipe.prepare import SPLITS


@dataclass(frozen=True)
class Split:
    """One split's rows, read-only and mapped from disk.

    `inputs` hold [rows, *shape] uint8, float32 or int64 each, `targets` [rows] int64 or float32, or [rows, 0] where
    there is nothing to predict, `rows` [rows] int64: every row's position in the source, ascending.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class PreparedData:
    """A folder that `prepare` wrote."""

    description: DataDescription
    splits: tuple[Split, ...]
    """In the order of SPLITS."""

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map every array. Raises ArtifactDamaged, a DataError, where one is not what `data.json` says."""
        try:
            description = DataDescription.load(folder)
        except FileNotFoundError as error:
            raise ArtifactDamaged("the folder holds no prepared data", where=folder / FILE_NAME) from error
        except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as error:
            raise ArtifactDamaged("the description cannot be read", where=folder / FILE_NAME) from error
        if set(description.rows) != set(SPLITS):
            raise ArtifactDamaged("the description names other splits", where=folder / FILE_NAME)
        return cls(description, tuple(_split(folder / name, description) for name in SPLITS))

    def split(self, name: str) -> Split:
        """The split `train`, `validation` or `test`."""
        return self.splits[SPLITS.index(name)]


def _split(folder: Path, description: DataDescription) -> Split:
    rows = description.rows[folder.name]
    target = description.target
    return Split(
        inputs=tuple(
            _mapped(folder / f"{each.name}.npy", each.dtype, (rows, *each.shape)) for each in description.inputs
        ),
        targets=_mapped(folder / TARGET_FILE, target.dtype, (rows, *target.shape)),
        rows=_mapped(folder / ROW_FILE, "int64", (rows,)),
    )


def _mapped(path: Path, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array at `path`, mapped; unlike `np.load`, nothing but a plain .npy file is accepted."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except (OSError, ValueError) as error:
        raise ArtifactDamaged(f"the array cannot be mapped: {error}", where=path) from error
    if array.dtype.name != dtype or array.shape != shape or not array.flags.c_contiguous:
        what = f"the array is {array.dtype.name} {list(array.shape)}, the description says {dtype} {list(shape)}"
        raise ArtifactDamaged(what, where=path)
    return array
