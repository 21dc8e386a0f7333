"""Input arrays on disk between reading and splitting, and the writer of the final arrays."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from mlctl.data.batches import InputArray


@dataclass(frozen=True)
class _Segment:
    rows: int
    dtype: str


class StagedInput:
    """One input's rows in a temporary file, batch by batch.

    Unless a `dtype` is given, which all batches then have, a batch is kept as uint8 where its values are whole numbers
    from 0 to 255, as most images are, else as float32.
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: str | None = None) -> None:
        self._path = path
        self._dtype = dtype
        self.shape = shape
        self._segments: list[_Segment] = []

    def append(self, values: InputArray) -> None:
        """Add a batch [rows, *shape]."""
        if not len(values):
            return
        if self._dtype is None:
            values = _narrowed(values)
        with self._path.open("ab") as stream:
            stream.write(np.ascontiguousarray(values).data)
        self._segments.append(_Segment(len(values), values.dtype.name))

    @property
    def dtype(self) -> str:
        """The one that was given; else `uint8` where that holds every batch, else `float32`."""
        return self._dtype or self._narrowest

    @property
    def _narrowest(self) -> str:
        return "uint8" if all(segment.dtype == "uint8" for segment in self._segments) else "float32"

    def batches(self) -> Iterator[InputArray]:
        """The batches again, in order, all of `dtype`."""
        dtype = np.dtype(self.dtype)
        with self._path.open("rb") as stream:
            for segment in self._segments:
                kept = np.dtype(segment.dtype)
                raw = stream.read(segment.rows * prod(self.shape) * kept.itemsize)
                yield np.frombuffer(raw, dtype=kept).reshape(segment.rows, *self.shape).astype(dtype, copy=False)


def _narrowed(values: InputArray) -> InputArray:
    if values.dtype == np.uint8 or values.min() < 0 or values.max() > 255:
        return values
    whole = values.astype(np.uint8)
    return whole if np.array_equal(whole, values) else values


class ArrayWriter:
    """An .npy file written batch by batch: only the batch is in memory, and no page of a map stays resident."""

    def __init__(self, path: Path, dtype: str, shape: Sequence[int]) -> None:
        self._stream: BinaryIO = path.open("wb")
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": tuple(shape)}
        np.lib.format.write_array_header_1_0(self._stream, header)

    def append(self, values: InputArray) -> None:
        """Write the next rows, [rows, *shape of a row] of the file's dtype."""
        self._stream.write(np.ascontiguousarray(values).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()
