"""A graph from elsewhere, answering as whoever made it would ask it: with rows that NumPy preprocessed."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlctl.graphs.adoption import Ending
from mlctl.graphs.fitting import ForeignInput
from mlctl.runtime.answers import Arrays, first_rows
from mlctl.runtime.session import OnnxSession


class ForeignModel:
    """Raw prepared rows [B, ...] in, the graph's answers [B, ...] out, as the reference for its adopted form.

    With a `batch` the graph is asked in batches of that size, the last one filled up with rows from its beginning.
    `ending` is put behind its answers in float64.
    """

    def __init__(
        self, path: Path, inputs: Sequence[ForeignInput], answer: str, *, threads: int, batch: int | None
    ) -> None:
        self._session = OnnxSession(path, threads=threads, outputs=(answer,))
        self._inputs = tuple(inputs)
        self.batch = batch
        self.ending: Ending | None = None

    def __call__(self, rows: Arrays) -> npt.NDArray[Any]:
        """The answers to raw rows, in the order of the prepared inputs. Raises what a session raises."""
        fed = {each.name: each.preprocessed(values) for each, values in zip(self._inputs, rows, strict=True)}
        ordered = tuple(fed[port.name] for port in self._session.inputs)
        if self.batch is None:
            return self._ended(self._session(ordered))
        count = len(ordered[0])
        parts = (
            self._session(first_rows(tuple(each[start : start + self.batch] for each in ordered), self.batch))
            for start in range(0, count, self.batch)
        )
        return self._ended(np.concatenate(list(parts))[:count])

    def _ended(self, answers: npt.NDArray[Any]) -> npt.NDArray[Any]:
        if self.ending == "flatten":
            return answers.reshape(-1)
        if self.ending == "softmax":
            shifted = answers.astype(np.float64) - answers.max(axis=-1, keepdims=True)
            powers = np.exp(shifted)
            return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
        return answers
