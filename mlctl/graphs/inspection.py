"""What an ONNX file holds, read without running it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from mlctl.errors import DataError

_FLOATS = frozenset(
    {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
)

_DISTRUST = "do not use this file; ask whoever made it for one whose data lies beside it"
_TOGETHER = "copy the model together with its data files"


@dataclass(frozen=True)
class GraphPort:
    """An input or output: its name, NumPy dtype, and shape with a name where a size is left open."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Inspection:
    """A graph's own figures.

    `operators` counts nodes by operator (`domain::Name` outside ONNX's own domain), most frequent first.
    `parameters` counts the elements of floating-point initializers; `bytes` includes external data.
    """

    opset: int
    inputs: tuple[GraphPort, ...]
    outputs: tuple[GraphPort, ...]
    operators: tuple[tuple[str, int], ...]
    parameters: int
    bytes: int

    @property
    def nodes(self) -> int:
        """Nodes of the graph and of the graphs inside it."""
        return sum(count for _, count in self.operators)


def inspect(path: Path) -> Inspection:
    """What the graph at `path` holds. Raises what `read_graph` raises."""
    model = read_graph(path)
    counts = Counter(_operator(node) for graph in graphs(model.graph) for node in graph.node)
    weights = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    return Inspection(
        opset=next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0),
        inputs=tuple(_port(each) for each in model.graph.input),
        outputs=tuple(_port(each) for each in model.graph.output),
        operators=tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))),
        parameters=sum(_elements(tensor) for tensor in weights if tensor.data_type in _FLOATS),
        bytes=sum(file.stat().st_size for file in graph_files(path, model)),
    )


def read_graph(path: Path) -> onnx.ModelProto:
    """The model at `path`, without its external data.

    Raises DataError when the file is no ONNX model, or when it points to data outside its own folder or to none.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except (OSError, DecodeError) as refusal:
        raise DataError(f"this is no ONNX model: {refusal}", where=path, next="make the file again") from refusal
    if not model.graph.node and not model.graph.output:
        raise DataError("this ONNX model has no graph", where=path, next="make the file again")
    graph_files(path, model)
    return model


def graph_files(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """The file itself, then those of its external data, each once.

    Raises DataError for external data that lies outside the model's folder, is a link, or is missing.
    """
    folder = path.parent.resolve()
    files = dict.fromkeys(location for tensor in tensors(model.graph) for location in _locations(tensor))
    for location in files:
        inside = PurePosixPath(location)
        target = folder / location
        if inside.is_absolute() or ".." in inside.parts or not target.resolve().is_relative_to(folder):
            raise DataError(f"external data {location!r} lies outside the model's folder", where=path, next=_DISTRUST)
        if target.is_symlink() or not target.is_file():
            raise DataError(f"external data {location!r} is no file beside the model", where=path, next=_TOGETHER)
    return (path, *(folder / location for location in files))


def graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """The graph, and those inside its nodes (branches, loop bodies), outermost first."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                yield from graphs(inner)


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the graph stores: initializers, and constants in attributes."""
    for each in graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            for attribute in node.attribute:
                yield from [attribute.t] if attribute.HasField("t") else []
                yield from attribute.tensors


def _locations(tensor: onnx.TensorProto) -> list[str]:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _operator(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _port(value: onnx.ValueInfoProto) -> GraphPort:
    tensor = value.type.tensor_type
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    shape = tuple(size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim)
    return GraphPort(value.name, dtype, shape)
