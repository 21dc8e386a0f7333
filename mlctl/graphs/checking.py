"""Whether a graph that somebody else made may be used: everything is looked at before anything is run."""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as native

from mlctl.errors import DataError
from mlctl.graphs.inspection import function_nodes, graphs, operator_name, read_graph, stored_tensors

_AGAIN = "export the model again, and check it with `onnx.checker` where it was made"
_PLAIN = "export it again with operators of ONNX alone, or as a function of the model"
_SHOWN = 5
_REFUSALS = (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, RuntimeError, ValueError, TypeError)
"""What the checker raises: its own errors share no base class, and pybind turns C++ errors into the others."""


def check_graph(path: Path) -> onnx.ModelProto:
    """The model at `path`, without its external data, after everything that a file from outside must pass.

    Raises DataError for a file that is no whole ONNX protobuf or is above 2 GiB, for external data that is missing,
    too short or outside the model's folder, for an operator set or an operator that neither ONNX nor ONNX Runtime
    knows, for a cycle, and for whatever the full check of `onnx.checker` refuses, shapes included. Writes nothing.
    """
    model = read_graph(path)
    _check_operator_sets(path, model)
    _check_operators(path, model)
    for graph in graphs(model.graph):
        _check_order(path, graph)
    _check_extents(path, model)
    try:
        onnx.checker.check_model(path, full_check=True)
    except _REFUSALS as refusal:
        raise DataError(f"the ONNX checker refuses it: {_one_line(refusal)}", where=path, next=_AGAIN) from refusal
    return model


def newest_operator_set() -> int:
    """The newest operator set of ONNX that both the installed onnx and the installed onnxruntime know."""
    of_runtime = max(schema.since_version for schema in _schemas() if schema.domain == "")
    return min(onnx.defs.onnx_opset_version(), int(of_runtime))


def _check_operator_sets(path: Path, model: onnx.ModelProto) -> None:
    versions = [each.version for each in model.opset_import if each.domain in ("", "ai.onnx")]
    newest = newest_operator_set()
    for version in versions:
        if not 1 <= version <= newest:
            what = f"its operator set {version} is unknown; the newest that is known here is {newest}"
            raise DataError(what, where=path, next=f"export it again with `opset_version={newest}` or an older one")


def _check_operators(path: Path, model: onnx.ModelProto) -> None:
    known = _known_operators() | {(_domain(each.domain), each.name) for each in model.functions}
    nodes = [*(node for graph in graphs(model.graph) for node in graph.node), *function_nodes(model)]
    unknown = Counter(operator_name(node) for node in nodes if (_domain(node.domain), node.op_type) not in known)
    if unknown:
        named = ", ".join(f"{name} ({count}×)" for name, count in unknown.most_common(_SHOWN))
        more = f" and {len(unknown) - _SHOWN} others" if len(unknown) > _SHOWN else ""
        what = f"neither ONNX nor ONNX Runtime knows these operators of it: {named}{more}"
        raise DataError(what, where=path, next=_PLAIN)


def _check_order(path: Path, graph: onnx.GraphProto) -> None:
    """Raise DataError for a cycle, naming the nodes that it goes through."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output if name}
    needed = {
        number: {makers[name] for name in _read_names(node) if name in makers} for number, node in enumerate(graph.node)
    }
    try:
        TopologicalSorter(needed).prepare()
    except CycleError as error:
        # The sorter names the first node at both ends, each one being needed by the next.
        circle = [_node_name(graph.node[number]) for number in error.args[1]]
        shown = [*circle[:_SHOWN], "…"] if len(circle) > _SHOWN + 1 else circle
        raise DataError(f"its nodes wait for each other: {' → '.join(shown)}", where=path, next=_AGAIN) from None


def _read_names(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the node reads, those that graphs inside it take from around them too."""
    yield from node.input
    for attribute in node.attribute:
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for graph in graphs(inner):
                made_inside = {name for each in graph.node for name in each.output}
                reads = (name for each in graph.node for name in each.input)
                yield from (name for name in (*reads, *(each.name for each in graph.output)) if name not in made_inside)


def _check_extents(path: Path, model: onnx.ModelProto) -> None:
    """Raise DataError for external data that ends before a tensor does."""
    for tensor in stored_tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {each.key: each.value for each in tensor.external_data}
        place, offset, length = entries.get("location", ""), entries.get("offset", "0"), entries.get("length", "0")
        if not place or not (offset.isdecimal() and length.isdecimal()):
            raise DataError(f"the external data of {tensor.name!r} has no place", where=path, next=_AGAIN)
        size = (path.parent / place).stat().st_size
        if int(offset) + int(length) > size:
            what = f"external data {place!r} has {size:,} bytes, and {tensor.name!r} ends after them"
            raise DataError(what, where=path, next="copy the model together with its whole data files")


@cache
def _schemas() -> tuple[native.schemadef.OpSchema, ...]:
    return tuple(native.get_all_operator_schema())


@cache
def _known_operators() -> frozenset[tuple[str, str]]:
    of_runtime = {(schema.domain, schema.name) for schema in _schemas()}
    return frozenset(of_runtime | {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()})


def _domain(name: str) -> str:
    return "" if name == "ai.onnx" else name


def _node_name(node: onnx.NodeProto) -> str:
    return node.name or f"{node.op_type} that makes {next(iter(node.output), '')!r}"


def _one_line(refusal: Exception) -> str:
    return " ".join(str(refusal).split("==> Context", 1)[0].split()).rstrip(".:") or type(refusal).__name__
