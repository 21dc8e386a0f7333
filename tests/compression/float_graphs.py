"""Float graphs to quantize: three networks as torch exports them, and what is easier written by hand."""

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor, nn

from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession


class Encoder(nn.Module):
    """Words [B, T] to logits [B, 5]: an embedding, one transformer layer, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(2048, 32)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True, dropout=0.0)
        self.head = nn.Linear(32, 5)

    def forward(self, words: Tensor) -> Tensor:
        answers: Tensor = self.head(self.layer(self.words(words)).mean(1))
        return answers


class Recurrent(nn.Module):
    """Series [B, T, 8] to numbers [B, 3]."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 3)

    def forward(self, series: Tensor) -> Tensor:
        answers: Tensor = self.head(self.memory(series)[0][:, -1])
        return answers


class Picture(nn.Module):
    """Raw images uint8 [B, 1, 8, 8] to logits [B, 10], the scaling inside."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.head = nn.Linear(512, 10)

    def forward(self, image: Tensor) -> Tensor:
        answers: Tensor = self.head(self.body(image.float() / 16).flatten(1))
        return answers


@dataclass(frozen=True)
class Known:
    """A float graph and rows for it."""

    model: onnx.ModelProto
    rows: Arrays

    def answers(self, model: onnx.ModelProto | None = None) -> npt.NDArray[Any]:
        """What the float graph, or another with the same inputs, answers to the rows."""
        return OnnxSession((model or self.model).SerializeToString(), threads=1)(self.rows)


@cache
def encoder() -> Known:
    return _exported(Encoder, np.random.default_rng(0).integers(0, 2048, (24, 7)))


@cache
def perceptron() -> Known:
    return _exported(_layers, normal(40, 16, seed=0))


@cache
def recurrent() -> Known:
    return _exported(Recurrent, normal(24, 6, 8, seed=0))


@cache
def picture() -> Known:
    return _exported(Picture, np.random.default_rng(0).integers(0, 17, (24, 1, 8, 8)).astype(np.uint8))


def made(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[Any]]],
    stored: Mapping[str, npt.NDArray[Any]],
    *,
    output: str = "y",
    opset: int = 20,
) -> onnx.ModelProto:
    """A graph by hand: `inputs` are types and shapes by name, `stored` the initializers; one float32 output."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def normal(*shape: int, seed: int = 1) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def cosine(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> float:
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def _layers() -> nn.Module:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))


def _exported(network: Callable[[], nn.Module], rows: npt.NDArray[Any]) -> Known:
    torch.manual_seed(3)
    net = network().eval()
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            net,
            (torch.from_numpy(rows[:2]),),
            dynamo=True,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            input_names=["x"],
            output_names=["y"],
            opset_version=20,
            verbose=False,
        )
    logging.disable(logging.NOTSET)
    assert program is not None
    return Known(program.model_proto, (rows,))
