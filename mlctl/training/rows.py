"""Where a split's numbers lie while a network learns from them: on the device, or on disk."""

# N samples, T tokens of a window, L tokens of a stream

from contextlib import nullcontext
from typing import Any, Protocol, TypeAlias

import numpy as np
import torch
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from torch import Tensor

RESIDENT_BYTES = 1 << 30
"""Largest array that is copied into the host's memory as a whole."""
RESIDENT_SHARE = 0.25
"""Share of a GPU's free memory that an array may take for good; the rest is for what is computed."""

Array: TypeAlias = NDArray[Any]
IndexArray: TypeAlias = NDArray[np.int64]

# torch selects rows of signed numbers alone; their bits are the same.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32}


class Rows(Protocol):
    """An array whose rows can be taken by place."""

    is_resident: bool
    """Whether it lies on the device as a whole, so that taking rows costs the host nothing."""

    def take(self, places: IndexArray, on_device: Tensor) -> Tensor:
        """The rows at these places, in their order, on the device; `on_device` holds the same places there.

        Unsigned numbers of more than 8 bits become int64, for little can be done with them.
        """
        ...


class ResidentRows:
    """An array [N, ...] that lies on the device as a whole."""

    is_resident = True

    def __init__(self, array: NDArray[Any], device: torch.device) -> None:
        self.rows = torch.from_numpy(np.array(array)).to(device)

    def take(self, places: IndexArray, on_device: Tensor) -> Tensor:
        return _selected(self.rows, on_device)


class MappedRows:
    """An array [N, ...] that stays where it is; only a batch at a time is copied to the device."""

    is_resident = False

    def __init__(self, array: NDArray[Any], device: torch.device) -> None:
        self.array = array
        self.device = device

    def take(self, places: IndexArray, on_device: Tensor) -> Tensor:
        return _copied(self.array, places, self.device)


class ResidentWindows:
    """Windows of T tokens out of a stream [L] that lies on the device as a whole; a place is a window's first token."""

    is_resident = True

    def __init__(self, stream: NDArray[Any], tokens: int, device: torch.device) -> None:
        self.stream = torch.from_numpy(np.array(stream)).to(device)
        self.offsets = torch.arange(tokens, device=device)

    def take(self, places: IndexArray, on_device: Tensor) -> Tensor:
        wanted = on_device[:, None] + self.offsets
        return _selected(self.stream, wanted.flatten()).view(wanted.shape).to(torch.int64)


class MappedWindows:
    """Windows of T tokens out of a stream [L] that stays where it is; a place is a window's first token."""

    is_resident = False

    def __init__(self, stream: NDArray[Any], tokens: int, device: torch.device) -> None:
        self.windows = sliding_window_view(stream, tokens)
        self.device = device

    def take(self, places: IndexArray, on_device: Tensor) -> Tensor:
        return _copied(self.windows, places, self.device).to(torch.int64)


def rows_of(array: NDArray[Any], device: torch.device) -> Rows:
    """The array's rows: resident where they fit, mapped where they do not."""
    return ResidentRows(array, device) if fits(array, device) else MappedRows(array, device)


def windows_of(stream: NDArray[Any], tokens: int, device: torch.device) -> Rows:
    """The stream's windows of so many tokens, int64: resident where the stream fits, mapped where it does not."""
    kind = ResidentWindows if fits(stream, device) else MappedWindows
    return kind(stream, tokens, device)


def fits(array: NDArray[Any], device: torch.device) -> bool:
    """Whether the array may lie on the device as a whole. It changes no result, so free memory may decide."""
    if device.type == "cuda":
        return array.nbytes <= RESIDENT_SHARE * torch.cuda.mem_get_info(device)[0]
    return array.nbytes <= RESIDENT_BYTES


def _selected(rows: Tensor, places: Tensor) -> Tensor:
    signed = _SIGNED.get(rows.dtype)
    if signed is None:
        return rows.index_select(0, places)
    return rows.view(signed).index_select(0, places).view(rows.dtype).to(torch.int64)


def _copied(array: NDArray[Any], places: IndexArray, device: torch.device) -> Tensor:
    dtype = torch.from_numpy(np.empty(0, array.dtype)).dtype
    is_gpu = device.type == "cuda"
    # Threads begin with the first GPU as theirs, which may be another process's.
    with torch.cuda.device(device) if is_gpu else nullcontext():
        # torch's own memory: NumPy's is not aligned enough for the same sums in the same order.
        rows = torch.empty((len(places), *array.shape[1:]), dtype=dtype, pin_memory=is_gpu)
    ascending = np.argsort(places)  # pages are read in the order of the file
    rows.numpy()[ascending] = array[places[ascending]]
    there = rows.to(device, non_blocking=True)
    return there.to(torch.int64) if dtype in _SIGNED else there
