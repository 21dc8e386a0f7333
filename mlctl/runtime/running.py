"""What every runtime offers: a loaded graph that answers batches."""

from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays

Runtime: TypeAlias = Literal["onnxruntime", "openvino"]

_TOKENS: Final = ("uint8", "uint16", "uint32")
"""What tokens are stored in, while graphs take them as int32 or int64."""


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
        """The first output for one batch; `inputs` in the order of `self.inputs`, of dtypes that it `takes`."""

    def all(self, inputs: Arrays, /) -> Arrays:
        """Every output for one batch, in the order of `self.outputs`, in memory that no later call writes to."""


def takes(wanted: str, given: str) -> bool:
    """Whether a graph's input of the NumPy dtype `wanted` can be given one of `given`: the same, or tokens that all
    fit."""
    return wanted == given or (wanted in ("int32", "int64") and given in _TOKENS and np.can_cast(given, wanted, "safe"))


def widened(array: npt.NDArray[Any], wanted: str) -> npt.NDArray[Any]:
    """The array in the dtype that a graph takes, where `takes` says that it can be given it; else as it is."""
    given = array.dtype.name
    return array.astype(wanted) if given != wanted and takes(wanted, given) else array
