"""ONNX files as other people make them: torch's own exporters, and graphs written by hand."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn


class Logits(nn.Module):
    """float32 images [B, 1, 4, 4] to two logits, as somebody would write it who never heard of mlctl."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.convolution = nn.Conv2d(1, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(6)
        self.linear = nn.Linear(6 * 2 * 2, 2)

    def forward(self, pixels: Tensor) -> Tensor:
        features = torch.relu(self.norm(self.convolution(pixels)))
        answers: Tensor = self.linear(nn.functional.max_pool2d(features, 2).flatten(1))
        return answers


def logits() -> nn.Module:
    """The network with fixed weights, ready to answer."""
    return Logits().eval()


def torch_export(path: Path, *, batch: int | None, dynamo: bool = True, external_data: bool = False) -> None:
    """Let torch write the network to `path`; the batch is open where it is None."""
    example = (torch.zeros(batch or 2, 1, 4, 4),)
    shapes = {"pixels": {0: torch.export.Dim("batch")}} if batch is None else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the old exporter announces its own end
        torch.onnx.export(
            logits(),
            example,
            path,
            dynamo=dynamo,
            external_data=external_data,
            dynamic_shapes=shapes,
            input_names=["pixels"],
            output_names=["scores"],
            verbose=False,
        )


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str | None]]],
    outputs: Mapping[str, tuple[int, Sequence[int | str | None]]],
    weights: Mapping[str, npt.NDArray[Any]],
    opset: int = 18,
) -> onnx.ModelProto:
    """A model by hand; inputs and outputs have a tensor type and a shape."""
    ports = [[helper.make_tensor_value_info(name, *kind) for name, kind in each.items()] for each in (inputs, outputs)]
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "by-hand", ports[0], ports[1], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def linear(columns: int = 16, outputs: int = 2, batch: int | str = "rows", dtype: str = "float32") -> onnx.ModelProto:
    """x [rows, columns] times a matrix, from nodes without names."""
    kind = int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    matrix = np.random.default_rng(8).normal(size=(columns, outputs)).astype(dtype)
    return model(
        [helper.make_node("MatMul", ["x", "w"], ["y"]), helper.make_node("Identity", ["y"], ["scores"])],
        {"x": (kind, [batch, columns])},
        {"scores": (kind, [batch, outputs])},
        {"w": matrix},
    )


def mean_of_words(width: int = 8) -> onnx.ModelProto:
    """Three inputs to one array: the masked mean of word vectors, plus a projection of numbers."""
    generator = np.random.default_rng(4)
    nodes = [
        helper.make_node("Gather", ["words", "ids"], ["vectors"], "look_up"),
        helper.make_node("Cast", ["mask"], ["weights"], "cast_mask", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"], "widen"),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"], "weigh"),
        helper.make_node("ReduceMean", ["masked", "middle"], ["pooled"], "pool", keepdims=0),
        helper.make_node("MatMul", ["numbers", "projection"], ["projected"], "project"),
        helper.make_node("Add", ["pooled", "projected"], ["vector"], "add"),
    ]
    return model(
        nodes,
        {
            "numbers": (TensorProto.FLOAT, ["rows", 3]),
            "ids": (TensorProto.INT64, ["rows", "words_in_row"]),
            "mask": (TensorProto.INT64, ["rows", "words_in_row"]),
        },
        {"vector": (TensorProto.FLOAT, ["rows", width])},
        {
            "words": generator.normal(size=(50, width)).astype(np.float32),
            "projection": generator.normal(size=(3, width)).astype(np.float32),
            "last": np.array([2]),
            "middle": np.array([1]),
        },
    )
