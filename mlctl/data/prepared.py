"""Prepared data, opened: arrays mapped from disk, checked against their description."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mlctl.data.arrays import ROW_FILE, TARGET_FILE
from mlctl.data.description import FILE_NAME, DataDescription
from mlctl.data.token_files import CHARACTERS_FILE, STREAM_FILE, window_count
from mlctl.errors import ArtifactDamaged
from mlctl.recipe.prepare import SPLITS


@dataclass(frozen=True)
class Split:
    """One split's rows, read-only and mapped from disk.

    `inputs` hold [rows, *shape] uint8, float32 or int64 each, `targets` [rows] int64 or float32, or [rows, 0] where
    there is nothing to predict, `rows` [rows] int64: every row's position in the source, ascending.

    Of text, `stream` is all tokens [tokens], uint8, uint16 or uint32. Its rows are windows of it that do not overlap:
    row r has the tokens from r * context on as its input [rows, context], and as its target [rows, context] those one
    place later, both views of the stream. `rows` are the windows' numbers; tokens that fill no window are left over.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]
    rows: NDArray[np.int64]
    stream: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class PreparedData:
    """A folder that `prepare` wrote."""

    description: DataDescription
    splits: tuple[Split, ...]
    """In the order of SPLITS."""
    token_characters: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    """Characters that each token stands for, int32 [vocabulary]; a token that is a part of a character counts as the
    character where it is its first byte, else as none. Empty where the data are no text."""

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
        if not description.vocabulary:
            return cls(description, tuple(_split(folder / name, description) for name in SPLITS))
        characters = _mapped(folder / CHARACTERS_FILE, "int32", (description.vocabulary,))
        return cls(description, tuple(_windows(folder / name, description) for name in SPLITS), characters)

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


def _windows(folder: Path, description: DataDescription) -> Split:
    path, rows = folder / STREAM_FILE, description.rows[folder.name]
    stream = _mapped(path, description.target.dtype, (description.tokens.get(folder.name, 0),))
    (context,) = description.target.shape
    if rows != window_count(len(stream), context):
        what = f"{len(stream):,} tokens are not the {rows:,} windows of {context} that the description says"
        raise ArtifactDamaged(what, where=path)
    stop = rows * context
    return Split(
        inputs=(stream[:stop].reshape(rows, context),),
        targets=stream[1 : stop + 1].reshape(rows, context),
        rows=np.arange(rows),
        stream=stream,
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
