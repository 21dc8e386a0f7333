"""What every runtime offers: a loaded graph that answers batches."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy.typing as npt

from mlctl.runtime.answers import Arrays

Runtime: TypeAlias = Literal["onnxruntime", "openvino"]


@dataclass(frozen=True)
class Port:
    """An input or output of a graph: its name, NumPy dtype, and shape with None where a size is left open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Running(Protocol):
    """A graph that a runtime has loaded; several threads may call it at once."""

    @property
    def name(self) -> Runtime:
        """The runtime."""

    @property
    def detail(self) -> str:
        """What the runtime runs on here, such as `CPUExecutionProvider` or `CPU in bf16`."""

    @property
    def inputs(self) -> tuple[Port, ...]:
        """What the graph takes, in its order."""

    @property
    def outputs(self) -> tuple[Port, ...]:
        """What the graph gives, in its order."""

    def __call__(self, inputs: Arrays, /) -> npt.NDArray[Any]:
        """The first output for one batch; `inputs` in the order, and of the dtypes, of `self.inputs`."""
