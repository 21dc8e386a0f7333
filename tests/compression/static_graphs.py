"""What tests of static graphs share: ranges of a graph by hand, and a quantized graph looked at by names."""

from pathlib import Path
from typing import Any

import float_graphs
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper
from rows_for_calibration import resources, saved

from mlctl.compression.quantization.calibration import Rows, calibrate
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import Range, RangeRule
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

FAST = Scheme("uint8", "int8", has_reduced_range=False, why="")
OPTIONS = StaticOptions(FAST)
IMAGE: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, ["batch", 4, 8, 8])}
ROW: dict[str, tuple[int, list[int | str]]] = {"x": (TensorProto.FLOAT, ["batch", 6])}


def made(
    nodes: list[onnx.NodeProto], inputs: dict[str, tuple[int, list[int | str]]], stored: dict[str, npt.NDArray[Any]]
) -> onnx.ModelProto:
    """A graph by hand whose output has the shape that follows."""
    return onnx.shape_inference.infer_shapes(float_graphs.made(nodes, inputs, stored))


def ranges_of(model: onnx.ModelProto, rows: Arrays, options: StaticOptions, folder: Path) -> dict[str, Range]:
    """The extremes of what the quantizer asks for."""
    found = calibrate(
        saved(model, folder),
        tensors_to_calibrate(model, options),
        Rows(rows, np.arange(len(rows[0]))),
        rule=RangeRule("minmax", is_symmetric=options.is_symmetric),
        resources=resources(folder),
        tell=lambda _: None,
    )
    return dict(found.ranges)


def quantizer_of(
    model: onnx.ModelProto, rows: Arrays, folder: Path, options: StaticOptions = OPTIONS
) -> StaticQuantizer:
    return StaticQuantizer(model, ranges_of(model, rows, options, folder), options)


def answers(model: onnx.ModelProto, rows: Arrays) -> npt.NDArray[Any]:
    return OnnxSession(model.SerializeToString(), threads=1)(rows)


def decibels(model: onnx.ModelProto, written: onnx.ModelProto, rows: Arrays) -> float:
    """Signal over noise of the quantized graph's answers."""
    expected, found = answers(model, rows), answers(written, rows)
    return float(10 * np.log10(np.square(expected).sum() / np.square(found - expected).sum()))


class Written:
    """A quantized graph by names: who makes a tensor, and what is stored."""

    def __init__(self, model: onnx.ModelProto) -> None:
        onnx.checker.check_model(model, full_check=True)
        self.nodes = {node.name: node for node in model.graph.node}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        self.readers = [(name, node) for node in model.graph.node for name in node.input]

    def is_dequantized(self, name: str) -> bool:
        return name in self.makers and self.makers[name].op_type == "DequantizeLinear"

    def is_integer_node(self, name: str) -> bool:
        """Whether everything that the node reads comes from integers."""
        return all(self.is_dequantized(each) for each in self.nodes[name].input if each)

    def scale_and_zero(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Those with which the tensor, or the weight of that name, is brought to integers and back."""
        node = next(
            node
            for node in self.nodes.values()
            if node.op_type in ("QuantizeLinear", "DequantizeLinear")
            and node.input[0].removesuffix("_QuantizeLinear_Input").removesuffix("_quantized") == name
        )
        return self.stored[node.input[1]], self.stored[node.input[2]]
