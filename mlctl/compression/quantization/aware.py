"""Quantization-aware training: the quantized graph itself as a model that learns, and how far the graph is from it."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from mlctl.compression.quantization.aware_weights import AwareWeights
from mlctl.errors import StepFailed
from mlctl.graphs.parity import Agreement, Decision
from mlctl.graphs.torch_graph import TorchGraph, require_runs
from mlctl.models.complete import CompleteModel
from mlctl.tasks.squared_error import OwnUnit

Answers = npt.NDArray[Any]


class AwareModel(CompleteModel):
    """A graph with its preparation inside: raw inputs go into the network as they are."""

    def __init__(self, network: nn.Module, inputs: int, finish: nn.Module) -> None:
        super().__init__(network, (), finish)
        self.preparations = nn.ModuleList(nn.Identity() for _ in range(inputs))


class _InDeviations(nn.Module):
    """A graph's answers [B] in the target's own unit as what it learns by: deviations [B, 1]."""

    def __init__(self, graph: TorchGraph, unit: OwnUnit) -> None:
        super().__init__()
        self.graph = graph
        self._mean, self._deviation = float(unit.mean), float(unit.deviation)

    def forward(self, *inputs: Tensor) -> Tensor:
        answers: Tensor = self.graph(*inputs)
        return ((answers - self._mean) / self._deviation).reshape(-1, 1)


def aware_model(
    quantized: onnx.ModelProto, weights: AwareWeights, finish: nn.Module, example: tuple[Answers, ...]
) -> AwareModel:
    """The QDQ graph as a model whose network ends before its task's `finish`, as objectives want it.

    A Softmax is cut off; for numbers in their own unit the answers are brought back to deviations. `example` holds
    raw inputs [B, ...], which are tried. Raises StepFailed for a graph without weights, one that torch cannot
    compute, naming the operator, or one that ends otherwise than its task.
    """
    if not weights.names:
        raise StepFailed("the graph has no weights to learn", next="quantize it with another `method`")
    whole = TorchGraph(quantized, weights)
    require_runs(whole, tuple(torch.from_numpy(np.array(rows)) for rows in example))
    network: nn.Module = whole
    if isinstance(finish, nn.Softmax):
        network = TorchGraph(quantized, weights, (_before_softmax(quantized.graph),))
    elif isinstance(finish, OwnUnit):
        network = _InDeviations(whole, finish)
    return AwareModel(network, len(whole.inputs), finish)


def _before_softmax(graph: onnx.GraphProto) -> str:
    """The tensor that the graph's last node, a Softmax, reads."""
    makers = {name: node for node in graph.node for name in node.output}
    last = makers.get(graph.output[0].name)
    while last is not None and last.op_type in ("Cast", "Identity"):
        last = makers.get(last.input[0])
    if last is None or last.op_type != "Softmax":
        raise StepFailed(
            "the graph does not end in a Softmax, before which it could learn",
            next="quantize this graph with another `method`",
        )
    return str(last.input[0])


@dataclass(frozen=True)
class Distance:
    """How far a graph's answers are from those of the model that was trained.

    `share` is the root mean square of the differences as a share of the answers' own deviation from their mean, output
    by output, 0 where all are the same; `agreement` the share of equal decisions; `largest` the largest difference, in
    the answers' own unit.
    """

    share: float
    agreement: float
    largest: float


def distance(pairs: Iterable[tuple[Answers, Answers]], decision: Decision) -> Distance:
    """Over batches of the trained model's answers and the graph's to the same rows, [B, ...] each, at least one."""
    agreed = Agreement(decision)
    squares, largest, count = 0.0, 0.0, 0
    sums: npt.NDArray[np.float64] = np.zeros(1)
    own: npt.NDArray[np.float64] = np.zeros(1)
    for trained, given in pairs:
        agreed.add(trained, given)
        # Outputs stand along the last axis; answers [B] are one output.
        rows = trained.reshape(-1, trained.shape[-1] if trained.ndim > 1 else 1).astype(np.float64)
        apart = np.abs(rows - given.reshape(rows.shape))
        squares, largest = squares + float(np.square(apart).sum()), max(largest, float(apart.max(initial=0)))
        sums, own, count = sums + rows.sum(0), own + np.square(rows).sum(0), count + len(rows)
    spread = float((own - np.square(sums) / count).sum())
    share = 0.0 if squares == 0 else sqrt(squares / spread) if spread > 0 else float("inf")
    return Distance(share, agreed.share, largest)
