"""Numbers to feed a graph with where only its speed is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError
from mlctl.graphs.inspection import GraphPort, inspection_of, read_graph
from mlctl.graphs.shapes import open_axes
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import takes

_SEED = 0


@dataclass(frozen=True)
class GraphInputs:
    """What a graph takes: its inputs in order, and which of their axes are the batch (name of the input, axis)."""

    path: Path
    ports: tuple[GraphPort, ...]
    batch_axes: frozenset[tuple[str, int]]

    @classmethod
    def of(cls, path: Path) -> "GraphInputs":
        """The inputs of the graph at `path`. Raises what `read_graph` raises."""
        model = read_graph(path)
        stored = {tensor.name for tensor in model.graph.initializer}
        ports = tuple(port for port in inspection_of(path, model).inputs if port.name not in stored)
        axes = frozenset((each.value, each.axis) for each in open_axes(model.graph) if each.is_batch)
        return cls(path, ports, axes)

    def generated(self, batch: int, open_size: int) -> Arrays:
        """Made-up inputs for one batch, the same every time: normally distributed floats; ones for all else.

        1 is a token that every vocabulary has, and what a mask says of a token that counts. Open axes beside the batch
        have `open_size`. Raises DataError for a batch that the graph does not take, and for inputs that are no numbers.
        """
        generator = np.random.Generator(np.random.PCG64(_SEED))
        return tuple(_numbers(port.dtype, self._shape(port, batch, open_size), generator) for port in self.ports)

    def require_batch(self, batch: int) -> None:
        """Raise DataError where the graph's batch is fixed to another size, or an input is no array of numbers."""
        for port in self.ports:
            if port.dtype in ("string", "sequence", "optional", "map", "sparse_tensor", "unknown"):
                what = f"its input {port.name!r} is of type {port.dtype}, and nothing can be made up for it"
                raise DataError(what, where=self.path, next="take a model of arrays of numbers")
            if "…" in port.shape:
                what = f"its input {port.name!r} has no stated shape"
                raise DataError(what, where=self.path, next="export the model again with the shapes of its inputs")
        if not self.batch_axes and (fixed := self._fixed_batch()) not in (None, batch):
            raise DataError(
                f"it takes batches of {fixed} alone, not of {batch}",
                where=self.path,
                next=f"write `--batch {fixed}`, or export the model again with an open batch dimension",
            )

    def misfit(self, arrays: Arrays) -> str:
        """Why rows [N, ...] cannot be this graph's inputs, in order; an empty text where they can."""
        if len(arrays) != len(self.ports):
            return f"it takes {len(self.ports)} inputs, the data has {len(arrays)}"
        for port, array in zip(self.ports, arrays, strict=True):
            sizes = zip(port.shape[1:], array.shape[1:], strict=False)
            fits = all(isinstance(wanted, str) or wanted == given for wanted, given in sizes)
            if not takes(port.dtype, array.dtype.name) or len(port.shape) != array.ndim or not fits:
                wanted = f"{port.dtype} {_text(port.shape[1:])}"
                return f"{port.name} is {wanted}, the data's rows are {array.dtype.name} {_text(array.shape[1:])}"
        return ""

    def _fixed_batch(self) -> int | None:
        sizes = [port.shape[0] for port in self.ports if port.shape]
        return next((size for size in sizes if isinstance(size, int)), None)

    def _shape(self, port: GraphPort, batch: int, open_size: int) -> tuple[int, ...]:
        return tuple(
            size if isinstance(size, int) else batch if (port.name, axis) in self.batch_axes else open_size
            for axis, size in enumerate(port.shape)
        )


def _text(shape: tuple[int | str, ...]) -> str:
    return f"[{', '.join(str(size) or '?' for size in shape)}]"


def _numbers(dtype: str, shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[Any]:
    kind = np.dtype(dtype)
    if kind.kind == "f":
        return generator.standard_normal(shape).astype(kind)
    return np.ones(shape, kind)
