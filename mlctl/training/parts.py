"""How many samples are computed at once: as many as the recipe says, or as fit."""

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import torch

from mlctl.errors import OutOfMemory
from mlctl.events import Tell, Warned
from mlctl.training.failures import first_line, is_lonely, is_out_of_memory

T = TypeVar("T")
Slices: TypeAlias = tuple[slice, ...]


class Parts:
    """Cuts batches into parts of `size` samples at most, and halves `size` where the device has no room for one."""

    def __init__(self, size: int, device: torch.device, tell: Tell) -> None:
        self.size = size
        self.device = device
        self.tell = tell

    def slices(self, count: int) -> Slices:
        """The parts of `count` samples, in order, as few as can be and as even as can be."""
        parts = max(1, -(-count // self.size))
        bounds = [number * count // parts for number in range(parts + 1)]
        return tuple(map(slice, bounds, bounds[1:]))

    def fitting(self, count: int, compute: Callable[[Slices], T], undo: Callable[[], None]) -> T:
        """What `compute` gives for the parts of `count` samples.

        Where the device has no room, `undo` is called, the size is halved, and `compute` starts again. Raises
        OutOfMemory where there is no room for a single sample.
        """
        reason = ""
        while True:
            try:
                return compute(self.slices(count))
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                reason = first_line(error)
            except ValueError as error:
                if not reason or not is_lonely(error):
                    raise
                raise self._full("two samples, and batch normalization needs as many", reason) from error
            # Here, and not above: as long as the error is there, so is what was computed before it.
            undo()
            self._halve(min(self.size, count), reason)

    def _halve(self, tried: int, reason: str) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if tried == 1:
            raise self._full("a single sample", reason)
        self.size = (tried + 1) // 2
        self.tell(
            Warned(
                f"{self.device} has no room for {tried} samples at once; they are computed {self.size} at a time from "
                "now on, and steps are as large as before"
            )
        )

    def _full(self, what: str, reason: str) -> OutOfMemory:
        return OutOfMemory(
            f"{self.device} has no room for {what}: {reason}", next="choose a smaller network, or another `--device`"
        )
