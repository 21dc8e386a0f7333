"""Everything that can be said of an ONNX file without running it."""

from dataclasses import dataclass
from pathlib import Path

from mlctl.graphs.flops import NodeWork, work_of
from mlctl.graphs.inspection import GraphPort, inspection_of, read_graph
from mlctl.graphs.properties import read_properties
from mlctl.graphs.shapes import OPEN_SIZE, AssumedSize, shaped
from mlctl.graphs.storage import StoredType, WeightBits, integer_share, stored_types, weight_bits


@dataclass(frozen=True)
class OperatorSet:
    """A family of operators and its version."""

    domain: str
    version: int


@dataclass(frozen=True)
class OperatorCount:
    """How many nodes have an operator."""

    operator: str
    nodes: int


@dataclass(frozen=True)
class GraphDescription:
    """An ONNX file: what it takes and gives, holds and computes.

    `parameters` counts all weights, `weight_bits` by the bits of each. `flops` is for one sample with the
    `assumed` sizes, 2 for every multiply-add of convolutions, matrix products and recurrences, and a lower bound where
    `uncounted` names operators. `integer_weight_share` and `integer_flop_share` are shares of all weights and of
    `flops`. `nodes` is in the order of the file, graphs inside a node after it.
    """

    opset: int
    operator_sets: tuple[OperatorSet, ...]
    ir_version: int
    producer: str
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]
    operators: tuple[OperatorCount, ...]
    parameters: int
    bytes: int
    stored: tuple[StoredType, ...]
    weight_bits: tuple[WeightBits, ...]
    integer_weight_share: float
    flops: int
    integer_flop_share: float
    assumed: tuple[AssumedSize, ...]
    uncounted: tuple[OperatorCount, ...]
    metadata: dict[str, str]
    nodes: tuple[NodeWork, ...]


def describe(path: Path, *, open_size: int = OPEN_SIZE) -> GraphDescription:
    """The graph at `path`; its open dimensions beside the batch, which is 1, are taken to be of `open_size`.

    Raises what `read_graph` raises.
    """
    model = read_graph(path)
    found = inspection_of(path, model)
    placed = shaped(model, open_size=open_size)
    work = work_of(placed)
    bits = weight_bits(model)
    return GraphDescription(
        opset=found.opset,
        operator_sets=tuple(OperatorSet(each.domain or "ai.onnx", each.version) for each in model.opset_import),
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        inputs=found.inputs,
        outputs=found.outputs,
        operators=tuple(OperatorCount(*each) for each in found.operators),
        parameters=sum(each.weights for each in bits),
        bytes=found.bytes,
        stored=stored_types(model),
        weight_bits=bits,
        integer_weight_share=integer_share(bits),
        flops=work.flops,
        integer_flop_share=work.integer_share,
        assumed=placed.assumed,
        uncounted=tuple(OperatorCount(*each) for each in work.uncounted),
        metadata=read_properties(model),
        nodes=work.nodes,
    )
