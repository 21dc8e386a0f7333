"""Samples, and batches of them by index."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlctl.errors import DataError

RESIDENT_BYTES = 1 << 30
"""Largest array that is kept on the device as a whole."""

IndexArray: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Samples:
    """One split: `inputs`, each [N, ...], and `targets` [N]; in memory or memory-mapped.

    Raises DataError where there is no sample, or where the arrays differ in length.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]

    def __post_init__(self) -> None:
        lengths = [len(array) for array in (*self.inputs, self.targets)]
        if len(set(lengths)) != 1:
            raise DataError(f"inputs and targets differ in length: {lengths}")
        if not lengths[0]:
            raise DataError("a split that training needs has no samples", next="give it rows, or a larger share")

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.targets)


@dataclass(frozen=True)
class Batch:
    """`inputs`, each [B, ...], and `targets` [B], on the device, in the dtypes of the samples."""

    inputs: tuple[Tensor, ...]
    targets: Tensor


class Rows(Protocol):
    """An array whose rows can be taken by index."""

    def take(self, order: IndexArray, on_device: Tensor) -> Tensor:
        """The rows of these indices, in their order, on the device; `on_device` holds the same indices there."""
        ...


class ResidentRows:
    """An array that lies on the device as a whole."""

    def __init__(self, array: NDArray[Any], device: torch.device) -> None:
        self.rows = torch.from_numpy(np.array(array)).to(device)

    def take(self, order: IndexArray, on_device: Tensor) -> Tensor:
        return self.rows.index_select(0, on_device)


class MappedRows:
    """An array that stays where it is; only a batch at a time is copied to the device."""

    def __init__(self, array: NDArray[Any], device: torch.device) -> None:
        self.array = array
        self.device = device
        self.dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype

    def take(self, order: IndexArray, on_device: Tensor) -> Tensor:
        # torch's own memory: NumPy's is not aligned enough for the same sums in the same order.
        rows = torch.empty((len(order), *self.array.shape[1:]), dtype=self.dtype, pin_memory=self.device.type == "cuda")
        ascending = np.argsort(order)  # pages are read in the order of the file
        rows.numpy()[ascending] = self.array[order[ascending]]
        return rows.to(self.device, non_blocking=True)


def rows_of(array: NDArray[Any], device: torch.device) -> Rows:
    """The array's rows: resident up to `RESIDENT_BYTES`, mapped above."""
    return ResidentRows(array, device) if array.nbytes <= RESIDENT_BYTES else MappedRows(array, device)


class Batches:
    """A split cut into batches of `batch_size`; the last one holds what is left.

    One sample alone has no variance for batch normalization, so a last batch of one is joined to the batch before.
    """

    def __init__(self, samples: Samples, batch_size: int, device: torch.device) -> None:
        self.count = samples.count
        self.device = device
        self.inputs = tuple(rows_of(array, device) for array in samples.inputs)
        self.targets = rows_of(samples.targets, device)
        starts = list(range(0, self.count, batch_size))
        if self.count - starts[-1] == 1 and len(starts) > 1 and batch_size > 1:
            starts.pop()
        self.bounds = tuple(zip(starts, [*starts[1:], self.count], strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of every batch, in order."""
        return tuple(stop - start for start, stop in self.bounds)

    def shuffled(self, seed: int, epoch: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from number `first` on; (seed, epoch) alone decide the order of the samples."""
        return self._in(np.random.default_rng((seed, epoch)).permutation(self.count), first)

    def in_order(self) -> Iterator[Batch]:
        """All batches, samples in the order of the arrays."""
        return self._in(np.arange(self.count), 0)

    def _in(self, order: IndexArray, first: int) -> Iterator[Batch]:
        on_device = torch.from_numpy(order).to(self.device)
        for start, stop in self.bounds[first:]:
            here, there = order[start:stop], on_device[start:stop]
            yield Batch(tuple(rows.take(here, there) for rows in self.inputs), self.targets.take(here, there))
