"""An ONNX graph as a network of torch: every node computed by torch's operators, with gradients."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import onnx
import torch
from onnx import inliner
from torch import Tensor, nn

from mlctl.errors import StepFailed
from mlctl.graphs.inspection import operator_set
from mlctl.graphs.torch_operator import Attributes, Operation, no_gradient, tensor_of
from mlctl.graphs.torch_operators import operator_of
from mlctl.graphs.torch_rounding import constant_rounding

KEEPS_VALUES: Final = frozenset(
    {"Flatten", "Identity", "MaxPool", "Relu", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators whose outputs are some of the numbers of their first input, or 0: what was rounded stays rounded."""

_UNSIGNED: Final = frozenset({torch.uint16, torch.uint32, torch.uint64})


class GivenTensors(nn.Module):
    """Tensors that stand in a graph for those of the same names: `names`, and `forward` gives them."""

    names: frozenset[str] = frozenset()

    def forward(self) -> dict[str, Tensor]:
        """Every tensor of `names`, as it is now."""
        return {}


@dataclass(frozen=True)
class _Call:
    """One node at work. Inputs at the places `host` are read on the host; `spent` are tensors that nobody reads after
    it."""

    operation: Operation
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    host: frozenset[int] = frozenset()
    spent: tuple[str, ...] = ()


class TorchGraph(nn.Module):
    """The graph `model`, whose stored tensors never change but for those that `given` gives.

    A pair of QuantizeLinear and DequantizeLinear is one rounding with the straight-through gradient, and none at all
    where the numbers lie on the same integers already. What says how to compute, such as shapes, stays on the host.
    """

    def __init__(
        self, model: onnx.ModelProto, given: GivenTensors | None = None, outputs: Sequence[str] | None = None
    ) -> None:
        """`outputs` are names of tensors to give in place of the graph's own.

        Raises StepFailed, naming the node, for one that has no gradient here.
        """
        super().__init__()
        model = _inlined(model)
        graph = model.graph
        self.given = given or GivenTensors()
        self.outputs = tuple(outputs or (port.name for port in graph.output))
        stored = {each.name: each for each in graph.initializer}
        self.inputs = tuple(port.name for port in graph.input if port.name not in stored)
        nodes = _needed(graph.node, self.outputs, self.given.names)
        constants, nodes = _without_constants(nodes, operator_set(model))
        read = {name for node in nodes for name in node.input}.union(self.outputs) - self.given.names
        constants.update({name: tensor_of(each) for name, each in stored.items() if name in read})
        self._constants = constants
        self._there: dict[torch.device, dict[str, Tensor]] = {}
        self._calls = _scheduled(list(_calls(nodes, constants, operator_set(model))), self.outputs)

    def forward(self, *inputs: Tensor) -> Any:
        """The output for inputs [B, ...], or all of them as a tuple where there are several."""
        device = inputs[0].device
        constants = self._constants if device.type == "cpu" else self._placed(device)
        values: dict[str, Tensor | None] = {"": None, **constants, **self.given()}
        values.update(zip(self.inputs, map(_computable, inputs), strict=True))
        for call in self._calls:
            found = call.operation(*self._arguments(call, values, device))
            values.update(zip(call.outputs, (found,) if isinstance(found, Tensor) else found, strict=False))
            for name in call.spent:
                del values[name]
        answers = tuple(values[name] for name in self.outputs)
        return answers[0] if len(answers) == 1 else answers

    def _arguments(self, call: _Call, values: Mapping[str, Tensor | None], device: torch.device) -> list[Tensor | None]:
        found = [values[name] for name in call.inputs]
        if device.type == "cpu":
            return found
        is_host = all(
            each is None or each.device.type == "cpu" for place, each in enumerate(found) if place not in call.host
        )
        for place, (name, each) in enumerate(zip(call.inputs, found, strict=True)):
            if each is None:
                continue
            if place in call.host:
                found[place] = self._constants.get(name, each).cpu()
            elif not is_host:
                found[place] = each.to(device, non_blocking=True)
        return found

    def _placed(self, device: torch.device) -> dict[str, Tensor]:
        """The constants where they are computed with: whole numbers stay on the host, which reads shapes and axes."""
        if device not in self._there:
            # Made once, perhaps while validating; a training may keep them for its gradients.
            with torch.inference_mode(False):
                self._there[device] = {
                    name: each.to(device) if each.is_floating_point() else each
                    for name, each in self._constants.items()
                }
        return self._there[device]


def _computable(values: Tensor) -> Tensor:
    """Unsigned numbers of more than 8 bits as int64, for torch computes little with them."""
    return values.to(torch.int64) if values.dtype in _UNSIGNED else values


def _needed(nodes: Sequence[onnx.NodeProto], outputs: Collection[str], given: Collection[str]) -> list[onnx.NodeProto]:
    """The nodes that something asks for, in their order."""
    wanted, found = set(outputs) - set(given), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            found.append(node)
            wanted.update(set(node.input) - set(given))
    return found[::-1]


def _without_constants(nodes: Sequence[onnx.NodeProto], version: int) -> tuple[dict[str, Tensor], list[onnx.NodeProto]]:
    """What the nodes of Constant hold, by name, and the other nodes."""
    constants, others = {}, []
    for node in nodes:
        if node.op_type == "Constant" and node.domain in ("", "ai.onnx"):
            constants[node.output[0]] = _constant(node, Attributes(node, version))
        else:
            others.append(node)
    return constants, others


def _constant(node: onnx.NodeProto, attributes: Attributes) -> Tensor:
    if attributes.has("value"):
        return attributes.tensor("value")
    if attributes.has("value_float"):
        return torch.tensor(attributes.real("value_float", 0.0))
    if attributes.has("value_int"):
        return torch.tensor(attributes.whole("value_int", 0))
    if attributes.has("value_ints"):
        return torch.tensor(attributes.wholes("value_ints"), dtype=torch.int64)
    raise no_gradient(node, "a value that is no tensor")


def _calls(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Tensor], version: int) -> Iterator[_Call]:
    pairs = _pairs(nodes, constants)
    done = {name for readers in pairs.values() for reader in readers for name in reader.output}
    grids: dict[str, tuple[str, ...]] = {}
    for node in nodes:
        if node.output[0] in done:
            continue
        inputs, outputs = tuple(node.input), tuple(node.output)
        if node.output[0] in pairs:
            grid = inputs[1:3]
            is_there = grids.get(inputs[0]) == grid
            axis = Attributes(node, version).whole("axis", 1)
            rounding = constant_rounding(constants[grid[0]], constants[grid[1]], axis)
            for reader in pairs[node.output[0]]:
                grids[reader.output[0]] = grid
                yield _Call(_same if is_there else rounding, inputs[:1], (reader.output[0],))
            continue
        if node.op_type == "DequantizeLinear":
            grids[outputs[0]] = inputs[1:3]
        elif node.op_type in KEEPS_VALUES and inputs[0] in grids:
            grids[outputs[0]] = grids[inputs[0]]
        operator = operator_of(node)
        yield _Call(operator.make(Attributes(node, version)), inputs, outputs, operator.host)


def _same(values: Tensor) -> Tensor:
    return values


def _pairs(nodes: Sequence[onnx.NodeProto], constants: Mapping[str, Tensor]) -> dict[str, list[onnx.NodeProto]]:
    """Of every QuantizeLinear that only such nodes read as undo it, with the same constants, its output and these."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    found = {}
    for node in nodes:
        if node.op_type != "QuantizeLinear" or len(node.input) < 3 or not constants.keys() >= set(node.input[1:3]):
            continue
        undoing = readers.get(node.output[0], [])
        if undoing and all(
            each.op_type == "DequantizeLinear" and list(each.input[1:3]) == list(node.input[1:3]) for each in undoing
        ):
            found[node.output[0]] = undoing
    return found


def _scheduled(calls: list[_Call], outputs: Collection[str]) -> tuple[_Call, ...]:
    """The calls, each with what it is the last to read."""
    last: dict[str, int] = {}
    for number, call in enumerate(calls):
        last.update(dict.fromkeys((*call.inputs, *call.outputs), number))
    made = {name for call in calls for name in call.outputs if name} - set(outputs)
    return tuple(
        _Call(
            call.operation,
            call.inputs,
            call.outputs,
            call.host,
            tuple({name for name in (*call.inputs, *call.outputs) if name in made and last[name] == number}),
        )
        for number, call in enumerate(calls)
    )


def require_gradients(model: onnx.ModelProto) -> None:
    """Raise StepFailed at the first node that cannot be trained through; weights need not be there."""
    _, nodes = _without_constants(_inlined(model).graph.node, operator_set(model))
    for node in nodes:
        operator_of(node).make(Attributes(node, operator_set(model)))


def _inlined(model: onnx.ModelProto) -> onnx.ModelProto:
    return inliner.inline_local_functions(model) if len(model.functions) else model


def require_runs(graph: TorchGraph, inputs: tuple[Tensor, ...]) -> None:
    """Raise StepFailed where torch cannot compute the graph on `inputs` [B, ...], before anything is trained."""
    try:
        with torch.no_grad():
            graph(*inputs)
    except (RuntimeError, IndexError, TypeError, NotImplementedError) as refusal:
        raise StepFailed(
            f"torch cannot compute this graph: {str(refusal).splitlines()[0]}",
            next="quantize this graph with another `method`",
        ) from refusal
