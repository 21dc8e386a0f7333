"""Samples, and batches of them by index."""

# N samples, B rows of a batch, T tokens of a window, L tokens of a stream

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlctl.errors import DataError
from mlctl.training.prefetching import prefetched
from mlctl.training.processes import Group
from mlctl.training.rows import IndexArray, rows_of, windows_of

NAMED_ROWS = 5
"""Rows of a batch that a message names."""


@dataclass(frozen=True)
class Samples:
    """One split: `inputs`, each [N, ...], and `targets` [N] or [N, ...]; in memory or memory-mapped.

    `rows` [N] are positions in the source, where they are known. Where the samples are windows of a text, `stream` [L]
    holds all its tokens: the one input is [N, T], sample k being tokens k T to k T + T - 1, and the targets are those
    that follow each. `guides`, each [N, ...], are what else is known of every sample, such as a teacher's answers;
    windows do not move then from epoch to epoch. Raises DataError where there is no sample, or where the arrays differ
    in length.
    """

    inputs: tuple[NDArray[Any], ...]
    targets: NDArray[Any]
    rows: IndexArray | None = None
    stream: NDArray[Any] | None = None
    guides: tuple[NDArray[Any], ...] = ()

    def __post_init__(self) -> None:
        lengths = [len(array) for array in (*self.inputs, self.targets, *self.guides)]
        if len(set(lengths)) != 1:
            raise DataError(f"inputs, targets and guides differ in length: {lengths}")
        if not lengths[0]:
            raise DataError("a split that training needs has no samples", next="give it rows, or a larger share")
        if self.stream is not None and len(self.stream) <= self.count * self.context:
            raise DataError(f"{self.count} windows of {self.context} tokens are more than a stream of its length has")

    def chosen(self, places: IndexArray) -> "Samples":
        """Only the samples at these places, in memory; windows of a text lie where they lie."""
        inputs, guides = (tuple(array[places] for array in arrays) for arrays in (self.inputs, self.guides))
        return Samples(inputs, self.targets[places], None if self.rows is None else self.rows[places], guides=guides)

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(self.targets)

    @property
    def context(self) -> int:
        """Tokens of a window, T."""
        return int(self.inputs[0].shape[1])


@dataclass(frozen=True)
class Batch:
    """`inputs`, each [B, ...], `targets` [B, ...] and `guides`, each [B, ...], on the device: a process's part of one.

    Class numbers and tokens are int64, all else has the dtype of the samples. `share` is the part's share of the whole
    batch's samples; where that is 0, the rows are there only to take part with nothing.
    """

    inputs: tuple[Tensor, ...]
    targets: Tensor
    share: float = 1.0
    guides: tuple[Tensor, ...] = ()


class Batches:
    """A split cut into batches of `batch_size`; the last one holds what is left.

    One sample alone has no variance for batch normalization, so a last batch of one is joined to the batch before.
    Each process of a group is given its contiguous part of every batch.
    """

    def __init__(self, samples: Samples, batch_size: int, device: torch.device, group: Group | None = None) -> None:
        self.samples = samples
        self.count = samples.count
        self.device = device
        self.group = group or Group.alone()
        if samples.stream is None:
            self.sources = tuple(rows_of(array, device) for array in (*samples.inputs, samples.targets))
        else:
            self.sources = (windows_of(samples.stream, samples.context + 1, device),)
        self.guides = tuple(rows_of(array, device) for array in samples.guides)
        starts = list(range(0, self.count, batch_size))
        if self.count - starts[-1] == 1 and len(starts) > 1 and batch_size > 1:
            starts.pop()
        self.bounds = tuple(zip(starts, [*starts[1:], self.count], strict=True))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Samples of every batch, in order, over all processes."""
        return tuple(stop - start for start, stop in self.bounds)

    @property
    def is_resident(self) -> bool:
        """Whether everything lies on the device as a whole."""
        return all(source.is_resident for source in (*self.sources, *self.guides))

    def shuffled(self, seed: int, epoch: int, first: int = 0) -> Generator[Batch]:
        """The batches of an epoch from number `first` on; (seed, epoch) alone decide the order of the samples.

        Of a text, they decide also where its windows begin.
        """
        return self._in(self._places(seed, epoch), first)

    def in_order(self) -> Generator[Batch]:
        """All batches, samples in the order of the arrays."""
        return self._in(self._windows(np.arange(self.count), 0), 0)

    def example(self) -> tuple[Tensor, ...]:
        """The inputs of the first two samples, [2, ...] each."""
        places = self._windows(np.arange(min(2, self.count)), 0)
        return self._made(places, torch.from_numpy(places).to(self.device), slice(None), 1.0).inputs

    def said(self, seed: int, epoch: int, number: int) -> str:
        """Which rows batch `number` of an epoch holds, in words: the first few, and how to find the rest."""
        start, stop = self.bounds[number]
        places = self._places(seed, epoch)[start:stop]
        if self.samples.stream is not None:
            what, where = "windows that begin at the split's tokens", ""
        elif self.samples.rows is None:
            what, where = "samples", ""
        else:
            what, where = "rows", " of the source, counted from 0 as in `row.npy`"
            places = self.samples.rows[places]
        more = len(places) - NAMED_ROWS
        named = ", ".join(map(str, places[:NAMED_ROWS].tolist()))
        return f"{what} {named}{f' and {more} more' if more > 0 else ''}{where}"

    def _places(self, seed: int, epoch: int) -> IndexArray:
        """What to take from the sources for the samples of an epoch, in their order."""
        order = np.random.default_rng((seed, epoch)).permutation(self.count)
        if self.samples.stream is None:
            return order
        shift = int(np.random.default_rng((seed, epoch, 1)).integers(self.samples.context))
        return self._windows(order, 0 if self.guides else shift)

    def _windows(self, order: IndexArray, shift: int) -> IndexArray:
        """The first tokens of windows that are moved by `shift`; the last one stays within the stream."""
        if self.samples.stream is None:
            return order
        last = len(self.samples.stream) - self.samples.context - 1
        return np.minimum(order * self.samples.context + shift, last)

    def _in(self, places: IndexArray, first: int) -> Generator[Batch]:
        on_device = torch.from_numpy(places).to(self.device)
        parts = [self._part(*bounds) for bounds in self.bounds[first:]]
        makers = (partial(self._made, places, on_device, rows, share) for rows, share in parts)
        if not self.is_resident:
            yield from prefetched(makers)
            return
        for make in makers:
            yield make()

    def _made(self, places: IndexArray, on_device: Tensor, rows: slice, share: float) -> Batch:
        *inputs, targets = (source.take(places[rows], on_device[rows]) for source in self.sources)
        samples = places[rows], on_device[rows]
        if self.samples.stream is not None:
            inputs, targets = [targets[:, :-1]], targets[:, 1:]
            samples = samples[0] // self.samples.context, samples[1] // self.samples.context
        elif not targets.is_floating_point():
            targets = targets.to(torch.int64)
        return Batch(tuple(inputs), targets, share, tuple(guide.take(*samples) for guide in self.guides))

    def _part(self, start: int, stop: int) -> tuple[slice, float]:
        """This process's rows of a batch, and what share of the batch they are."""
        first, last = ((stop - start) * rank // self.group.count for rank in (self.group.rank, self.group.rank + 1))
        if first == last:
            # Two, because one row alone may have no variance.
            return slice(start, min(start + 2, stop)), 0.0
        return slice(start + first, start + last), (last - first) / (stop - start)
