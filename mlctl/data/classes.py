"""Labels become class numbers."""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


class ClassNumbers:
    """Numbers for labels: in order of appearance while reading, in sorted order at the end."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def of(self, labels: Iterable[str]) -> NDArray[np.int64]:
        """The number of every label, int64 [labels]; a new label takes the next number."""
        numbers = self._numbers
        return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)

    def labels(self) -> tuple[str, ...]:
        """Every label once: by value where all are whole numbers, else by text."""
        if all(_INTEGER.fullmatch(label) for label in self._numbers):
            return tuple(sorted(self._numbers, key=lambda label: (int(label), label)))
        return tuple(sorted(self._numbers))

    def renumbered(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Numbers of appearance, turned into positions in `labels()`."""
        position = {label: index for index, label in enumerate(self.labels())}
        table = np.array([position[label] for label in self._numbers], dtype=np.int64)
        return table[numbers]
