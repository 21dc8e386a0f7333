"""Requests that wait to be computed, the oldest first."""

from collections.abc import Iterator, Sequence
from typing import Final

from mlctl.serving.batching.waiting import Waiting

_WINDOW: Final = 256
"""The oldest requests, out of which a batch is formed: what it costs does not grow with the queue."""


class Queue:
    """In the order in which they came, those that were put back included."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._put = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Waiting]:
        return iter(self._waiting)

    @property
    def oldest(self) -> Waiting:
        """Of at least one."""
        return self._waiting[0]

    def put(self, waiting: Waiting) -> None:
        """Behind all others."""
        self._put += 1
        waiting.number = self._put
        self._waiting.append(waiting)

    def put_back(self, batch: Sequence[Waiting]) -> None:
        """Where they were when they were taken."""
        self._waiting = sorted([*batch, *self._waiting], key=_number)

    def window(self, most: int) -> list[Waiting]:
        """The oldest, as many as the choice of a batch can depend on: of requests that are all alike, `most`."""
        waiting = self._waiting
        if waiting[0].length:
            return waiting[:_WINDOW]
        few = waiting[:most]
        key = few[0].key
        return few if all([each.key == key for each in few]) else waiting[:_WINDOW]

    def replace(self, window: Sequence[Waiting], left: Sequence[Waiting]) -> None:
        """Of a window, the queue's beginning, only so much is left."""
        self._waiting[: len(window)] = left

    def keep_unsettled(self) -> None:
        """Forget what interests nobody any more."""
        self._waiting = [each for each in self._waiting if not each.is_settled]

    def emptied(self) -> list[Waiting]:
        """All that waited; now nothing does."""
        waiting, self._waiting = self._waiting, []
        return waiting


def _number(waiting: Waiting) -> int:
    return waiting.number
