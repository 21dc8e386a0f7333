"""What `mlctl inspect` says, as text, whoever draws it."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, TypeAlias

from mlctl.stages.inspecting import Lineage, ModelDescription
from mlctl.units import plural, size_text

if TYPE_CHECKING:
    from mlctl.graphs.description import GraphDescription, OperatorCount
    from mlctl.graphs.inspection import GraphPort
    from mlctl.graphs.shapes import AssumedSize, Shape
    from mlctl.models.weights_inspection import WeightsInspection

Fact: TypeAlias = tuple[str, str]
"""What it is about, and what there is to say; an empty first text goes on with the fact above."""
Rows: TypeAlias = tuple[Sequence[str], Sequence[Sequence[str]]]
"""Headings and cells."""

SHORT_HASH = 12


def facts(found: ModelDescription) -> Iterator[Fact]:
    """Everything but single nodes and tensors, one fact a line."""
    yield "model", found.path
    if found.graph:
        yield from _graph_facts(found.graph)
    if found.weights:
        yield from _weights_facts(found.weights)
    if found.lineage:
        yield from _lineage_facts(found.lineage)
    elif found.lineage_note:
        yield "lineage", f"not known: {found.lineage_note}"


def parts(found: ModelDescription) -> Rows:
    """Every node of a graph, or every tensor of weights."""
    if found.weights:
        cells = [(each.name, each.dtype, _sizes(each.shape), size_text(each.bytes)) for each in found.weights.tensors]
        return ("tensor", "dtype", "shape", "size"), cells
    nodes = found.graph.nodes if found.graph else ()
    return ("node", "operator", "inputs", "outputs", "FLOPs", "module"), [
        (
            node.name or "–",
            node.operator,
            ", ".join(map(_sizes, node.inputs)),
            ", ".join(map(_sizes, node.outputs)),
            "not counted" if node.flops is None else f"{node.flops:,}" + (" int" if node.is_integer else ""),
            node.scope or "–",
        )
        for node in nodes
    ]


def count_text(count: int) -> str:
    """A large number with three digits that matter: `1.23 M`; small ones whole."""
    if abs(count) < 1000:
        return str(count)
    size = float(count)
    for unit in ("k", "M", "G", "T"):
        size /= 1000
        # From 999.5 on three digits would round up to the next unit.
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
    return f"{size / 1000:,.3g} P"


def _graph_facts(graph: "GraphDescription") -> Iterator[Fact]:
    producer = f", by {graph.producer}" if graph.producer else ""
    yield "format", f"ONNX, {size_text(graph.bytes)}, IR version {graph.ir_version}{producer}"
    yield "operator sets", ", ".join(f"{each.domain} {each.version}" for each in graph.operator_sets)
    yield from _listed("input", [_port_text(each) for each in graph.inputs])
    yield from _listed("output", [_port_text(each) for each in graph.outputs])
    yield "nodes", f"{sum(each.nodes for each in graph.operators):,}: {_operators_text(graph.operators)}"
    yield "parameters", f"{graph.parameters:,}"
    yield from _listed(
        "stored",
        [f"{each.dtype}  {size_text(each.bytes)} in {plural(each.tensors, 'tensor')}" for each in graph.stored],
    )
    bits = ", ".join(
        f"{each.weights:,} in {each.bits}-bit {'integers' if each.is_integer else 'floats'}"
        for each in graph.weight_bits
    )
    yield "weights", f"{graph.integer_weight_share:.0%} as integers: {bits}" if bits else "none"
    yield from _work_facts(graph)
    yield from _listed("metadata", [f"{key}  {_one_line(value)}" for key, value in sorted(graph.metadata.items())])


def _work_facts(graph: "GraphDescription") -> Iterator[Fact]:
    at_least = "at least " if graph.uncounted else ""
    share = f", {graph.integer_flop_share:.0%} on integers" if graph.flops else ""
    yield "FLOPs", f"{at_least}{count_text(graph.flops)} for one sample{share} (2 for every multiply-add)"
    if graph.assumed:
        yield "", f"with {', '.join(dict.fromkeys(map(_assumed_text, graph.assumed)))}"
    if graph.uncounted:
        yield "", f"not counted: {_operators_text(graph.uncounted)}"


def _weights_facts(weights: "WeightsInspection") -> Iterator[Fact]:
    yield "format", f"safetensors, {size_text(weights.bytes)}"
    yield "parameters", f"{weights.parameters:,}"
    dtypes = dict.fromkeys(each.dtype for each in weights.tensors)
    groups = {dtype: [each for each in weights.tensors if each.dtype == dtype] for dtype in dtypes}
    yield from _listed(
        "stored",
        [
            f"{dtype}  {size_text(sum(each.bytes for each in group))} in {plural(len(group), 'tensor')}"
            for dtype, group in groups.items()
        ],
    )
    yield from _listed("metadata", [f"{key}  {_one_line(value)}" for key, value in sorted(weights.metadata.items())])


def _lineage_facts(lineage: Lineage) -> Iterator[Fact]:
    yield "lineage", f"{lineage.step} ({lineage.stage}) of {lineage.recipe}, {lineage.fingerprint[:SHORT_HASH]}"
    yield "", f"made {lineage.made} on {lineage.host} by mlctl {lineage.mlctl}"
    yield "", "with " + ", ".join(f"{name} {version}" for name, version in lineage.versions.items())
    for each in lineage.inputs:
        yield "", f"from {each.role}: {each.step} {each.fingerprint[:SHORT_HASH]}"
    for name, choice in lineage.choices.items():
        yield "", f"chosen {name}: {choice}"


def _listed(label: str, lines: Sequence[str]) -> Iterator[Fact]:
    for number, line in enumerate(lines):
        yield ("" if number else label), line


def _port_text(port: "GraphPort") -> str:
    return f"{port.name}  {port.dtype} [{', '.join(str(size) or '?' for size in port.shape)}]"


def _operators_text(operators: Sequence["OperatorCount"]) -> str:
    return ", ".join(f"{each.nodes:,} {each.operator}" for each in operators) or "none"


def _assumed_text(assumed: "AssumedSize") -> str:
    name = assumed.symbol or f"dimension {assumed.axis} of {assumed.value}"
    return f"{name} = {assumed.size:,}"


def _sizes(shape: "Shape") -> str:
    if shape is None:
        return "?"
    return "×".join("?" if size is None else str(size) for size in shape) or "scalar"


def _one_line(text: str) -> str:
    return " ".join(text.split())
