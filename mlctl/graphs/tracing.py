"""Every tensor of an ONNX graph, as it is written and not as ONNX Runtime would rewrite it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import numpy.typing as npt
import onnx

from mlctl.errors import DataError
from mlctl.graphs.cleaning import module_scopes
from mlctl.graphs.saving import load_graph, tensor_bytes
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

Framework: TypeAlias = Literal["onnx", "torch"]

_LARGEST_GRAPH = 2_000_000_000
"""Bytes of tensors that still fit one protobuf in memory, which is how the graph reaches ONNX Runtime."""


@dataclass(frozen=True)
class TracedTensor:
    """A tensor that a model computes, and where.

    `module` is the path of the torch module that asked for it, empty for the outermost one and where none is known;
    `call` is the name of its call in the program that torch.export traced, empty where none is known. `inputs` name
    all that the node reads: tensors, inputs of the graph, and weights; `weights` only those that the model stores.
    """

    name: str
    node: str
    operator: str
    module: str
    call: str
    inputs: tuple[str, ...]
    weights: tuple[str, ...]


class Traced(Protocol):
    """A model whose every tensor can be seen."""

    @property
    def framework(self) -> Framework:
        """What runs it."""

    @property
    def tensors(self) -> tuple[TracedTensor, ...]:
        """In the order in which they are computed."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the tensors that are the answers."""

    def run(self, rows: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """Every tensor for one batch of raw inputs [B, ...], by name; those that are no numbers are left out."""

    def optimized(self, rows: Arrays) -> Arrays | None:
        """The answers to one batch as they come in earnest; None where nothing rewrites the model before it runs."""


class TracedGraph:
    """An ONNX graph whose every tensor is an output; nodes inside branches and loops stay unseen."""

    framework: Framework = "onnx"

    def __init__(self, path: Path, *, threads: int) -> None:
        """Load the graph at `path`. Raises DataError for what is no valid graph, and for one above 2 GB."""
        proto = load_graph(path)
        if sum(map(tensor_bytes, proto.graph.initializer)) > _LARGEST_GRAPH:
            raise DataError(
                "this graph is above 2 GB, too large to make every tensor an output in memory",
                where=path,
                next="compare a smaller model of the same kind; what differs is the same",
            )
        self.tensors = tuple(_traced(proto.graph))
        self.outputs = tuple(port.name for port in proto.graph.output)
        self._optimized = OnnxSession(path, threads=threads)
        self.inputs = self._optimized.inputs
        hidden = [each.name for each in self.tensors if each.name not in self.outputs]
        # Without a type, ONNX Runtime infers it; shape inference of our own would only fail where its does not.
        proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in hidden)
        self._session = OnnxSession(proto.SerializeToString(), threads=threads, is_optimized=False)

    def run(self, rows: Arrays) -> Mapping[str, npt.NDArray[Any]]:
        """As `Traced` says."""
        names = (port.name for port in self._session.outputs)
        found = zip(names, self._session.all(rows), strict=True)
        return {name: array for name, array in found if array.dtype.kind in "biuf"}

    def optimized(self, rows: Arrays) -> Arrays:
        """The answers of the graph after ONNX Runtime's own optimizations."""
        return self._optimized.all(rows)


def _traced(graph: onnx.GraphProto) -> Iterator[TracedTensor]:
    stored = {each.name for each in graph.initializer}
    for node in graph.node:
        scopes = module_scopes(node)
        for name in filter(None, node.output):
            yield TracedTensor(
                name=name,
                node=node.name or name,
                operator=node.op_type,
                module=scopes[-2] if len(scopes) > 1 else "",
                call=scopes[-1] if scopes else "",
                inputs=tuple(filter(None, node.input)),
                weights=tuple(each for each in node.input if each in stored),
            )
