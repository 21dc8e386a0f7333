"""Whether a graph that was made elsewhere takes the prepared rows, and which of its outputs is the answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper

from mlctl.errors import DataError

FLOATS = ("float16", "float32", "float64")


@dataclass(frozen=True)
class RawInput:
    """What prepared data gives for one input: raw rows of `dtype` [rows, *shape], and how they are scaled.

    A graph sees (raw / scale - mean) / deviation; `mean` and `deviation` hold one value for each index of a row's first
    axis, or nothing for 0 and 1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()

    @property
    def is_scaled(self) -> bool:
        """Whether scaling changes any value."""
        return self.scale != 1 or bool(self.mean) or bool(self.deviation)

    def __str__(self) -> str:
        return f"{self.name!r} of {self.dtype} {list(self.shape)}"


@dataclass(frozen=True)
class ForeignInput:
    """An input of the graph, and the prepared one that it is given; sizes that are left open are None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    raw: RawInput

    def preprocessed(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the graph as it was made is fed for raw `rows` [N, *shape], computed in float64.

        Raises DataError for a whole number that the graph's dtype does not hold.
        """
        if not self.raw.is_scaled:
            fed = rows.astype(self.dtype)
            if self.dtype not in FLOATS and not np.array_equal(fed, rows):
                raise DataError(
                    f"{self.raw} holds numbers that the graph's {self.name!r} of {self.dtype} does not",
                    next="prepare smaller numbers, or export the graph with wider ones",
                )
            return fed
        along_first_axis = (-1, *(1,) * (rows.ndim - 2))
        values = rows.astype(np.float64) / self.raw.scale
        if self.raw.mean:
            values = values - np.reshape(self.raw.mean, along_first_axis)
        if self.raw.deviation:
            values = values / np.reshape(self.raw.deviation, along_first_axis)
        return values.astype(self.dtype)


def matched(model: onnx.ModelProto, given: Sequence[RawInput], where: Path) -> tuple[ForeignInput, ...]:
    """For each prepared input, in their order, the graph's input that takes it.

    Names decide where both sides have the same ones, else the order does. Raises DataError, saying both sides, where
    the numbers of inputs differ, and where a dtype or a shape does not fit; `where` is the file that errors name.
    """
    ports = graph_inputs(model)
    if len(ports) != len(given):
        raise DataError(
            f"the graph takes {_listed([_port_text(port) for port in ports])}, the prepared data holds "
            f"{_listed(list(map(str, given)))}",
            where=where,
            next="prepare one input for each that the graph takes",
        )
    by_name = {port.name: port for port in ports}
    if {each.name for each in given} == set(by_name):
        ports = [by_name[each.name] for each in given]
    return tuple(_fitting(port, raw, where) for port, raw in zip(ports, given, strict=True))


def graph_inputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller must give: not those that the file itself has a value for."""
    held = {tensor.name for tensor in model.graph.initializer}
    return [port for port in model.graph.input if port.name not in held]


def answer_name(model: onnx.ModelProto, where: Path) -> str:
    """The first output of floating-point numbers that a node makes, which is the answer.

    Raises DataError where there is none; `where` is the file that it names.
    """
    made = {name for node in model.graph.node for name in node.output}
    for port in model.graph.output:
        if port_dtype(port) in FLOATS and port.name in made:
            return str(port.name)
    raise DataError(
        f"no output of the graph holds floating-point numbers: {_listed([_port_text(p) for p in model.graph.output])}",
        where=where,
        next="export it again with an output of numbers; a classifier's are logits or probabilities",
    )


def fixed_batch(inputs: Sequence[ForeignInput]) -> int | None:
    """The batch size that an input fixes; None where all leave it open."""
    sizes = [each.shape[0] for each in inputs if each.shape[0] is not None]
    return sizes[0] if sizes else None


def _fitting(port: onnx.ValueInfoProto, raw: RawInput, where: Path) -> ForeignInput:
    dtype, shape = port_dtype(port), _shape(port)
    fits = shape is not None and len(shape) == len(raw.shape) + 1
    fits = fits and all(size in (None, given) for size, given in zip((shape or ())[1:], raw.shape, strict=True))
    if not fits:
        raise _misfit(port, raw, where, "prepare rows of the shape that it takes")
    if dtype not in FLOATS and raw.is_scaled:
        raise _misfit(port, raw, where, "such numbers cannot be scaled: set the scale to 1, and standardize nothing")
    if dtype not in FLOATS and not (dtype in ("int32", "int64") and raw.dtype != "float32") and dtype != raw.dtype:
        raise _misfit(port, raw, where, "prepare numbers of the dtype that it takes")
    return ForeignInput(port.name, dtype, shape or (), raw)


def _misfit(port: onnx.ValueInfoProto, raw: RawInput, where: Path, next_step: str) -> DataError:
    scaled = " (scaled)" if raw.is_scaled else ""
    what = f"the graph takes {_port_text(port)}, the prepared data holds {raw}{scaled}"
    return DataError(what, where=where, next=next_step)


def port_dtype(port: onnx.ValueInfoProto) -> str:
    """The NumPy dtype of an input or output, or that it holds no numbers."""
    kind = port.type.tensor_type.elem_type
    if not kind or kind == onnx.TensorProto.STRING:
        return "no numbers"
    return str(helper.tensor_dtype_to_np_dtype(kind).name)


def _shape(port: onnx.ValueInfoProto) -> tuple[int | None, ...] | None:
    """The sizes, None for each that is open; None for a shape that the graph does not tell."""
    if not port.type.tensor_type.HasField("shape"):
        return None
    sizes = port.type.tensor_type.shape.dim
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in sizes)


def _port_text(port: onnx.ValueInfoProto) -> str:
    sizes = (
        str(size.dim_value) if size.HasField("dim_value") else size.dim_param or "?"
        for size in port.type.tensor_type.shape.dim
    )
    return f"{port.name!r} of {port_dtype(port)} [{', '.join(sizes)}]"


def _listed(texts: list[str]) -> str:
    return " and ".join(texts) or "nothing"
