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

_TENSOR_TYPES = frozenset(onnx.TensorProto.DataType.values()) - {onnx.TensorProto.UNDEFINED}

LARGEST_PROTOBUF = 2**31 - 1
"""Bytes: protobuf's own limit for one message."""

_DISTRUST = "do not use this file; ask whoever made it for one whose data lies beside it"
_STORE_OUTSIDE = "store the weights beside it: `onnx.save_model(model, path, save_as_external_data=True)`"
_TOGETHER = "copy the model together with its data files"


@dataclass(frozen=True)
class GraphPort:
    """An input or output: its name, NumPy dtype, and shape with a name where a size is left open.

    A value that is no tensor has its kind for a dtype, such as `sequence`; where the file states no shape it is
    `("…",)`.
    """

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
    return inspection_of(path, read_graph(path))


def inspection_of(path: Path, model: onnx.ModelProto) -> Inspection:
    """What `model` holds, which `read_graph` read from `path`. Raises what `graph_files` raises."""
    counts = Counter(operator_name(node) for graph in graphs(model.graph) for node in graph.node)
    weights = [tensor for graph in graphs(model.graph) for tensor in graph.initializer]
    return Inspection(
        opset=operator_set(model),
        inputs=tuple(_port(each) for each in model.graph.input),
        outputs=tuple(_port(each) for each in model.graph.output),
        operators=tuple(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0]))),
        parameters=sum(_elements(tensor) for tensor in weights if tensor.data_type in _FLOATS),
        bytes=sum(file.stat().st_size for file in graph_files(path, model)),
    )


def operator_set(model: onnx.ModelProto) -> int:
    """The version of ONNX's own operators that the model uses, 0 where it names none."""
    return next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)


def read_graph(path: Path) -> onnx.ModelProto:
    """The model at `path`, without its external data.

    Raises DataError when the file is no ONNX model or above 2 GiB, or when it points to data outside its own folder
    or to none.
    """
    try:
        if path.stat().st_size > LARGEST_PROTOBUF:
            raise DataError("one protobuf file holds at most 2 GiB", where=path, next=_STORE_OUTSIDE)
        model = onnx.load(path, format="protobuf", load_external_data=False)
    except OSError as refusal:
        raise DataError(
            f"this file cannot be read ({refusal.strerror})", where=path, next="check the path"
        ) from refusal
    except DecodeError as refusal:
        what = "this is no ONNX model, or a part of one: its protobuf cannot be decoded"
        raise DataError(what, where=path, next="copy or make the file again") from refusal
    if not model.graph.node and not model.graph.output:
        raise DataError("this ONNX model has no graph", where=path, next="make the file again")
    if not all(isinstance(text, str) for text in _texts(model)):
        raise DataError("its names are not all UTF-8 text", where=path, next="make the file again")
    for tensor in stored_tensors(model):
        if min(tensor.dims, default=0) < 0 or tensor.data_type not in _TENSOR_TYPES:
            what = f"its tensor {tensor.name!r} has a type or a shape that no tensor can have"
            raise DataError(what, where=path, next="make the file again")
    graph_files(path, model)
    return model


def graph_files(path: Path, model: onnx.ModelProto) -> tuple[Path, ...]:
    """The file itself, then those of its external data, each once.

    Raises DataError for external data that lies outside the model's folder, is a link, or is missing.
    """
    folder = path.parent.resolve()
    files = dict.fromkeys(location for tensor in stored_tensors(model) for location in _locations(tensor))
    for location in files:
        if "\0" in location:
            raise DataError(f"external data {location!r} is no name of a file", where=path, next=_DISTRUST)
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
        for inner in _inner_graphs(node):
            yield from graphs(inner)


def operator_name(node: onnx.NodeProto) -> str:
    """The operator's name, with its domain before it where that is not ONNX's own: `com.microsoft::Gelu`."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the graph stores: initializers, and constants in attributes."""
    for each in graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for node in each.node:
            yield from _constants(node)


def stored_tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor that the file stores: those of its graph, and constants in its own functions."""
    yield from tensors(model.graph)
    for node in function_nodes(model):
        yield from _constants(node)


def function_nodes(model: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    """The nodes of the model's own functions, and of the graphs inside them."""
    for function in model.functions:
        yield from function.node
        for node in function.node:
            yield from (each for inner in _inner_graphs(node) for graph in graphs(inner) for each in graph.node)


def _constants(node: onnx.NodeProto) -> Iterator[onnx.TensorProto]:
    for attribute in node.attribute:
        yield from [attribute.t] if attribute.HasField("t") else []
        yield from attribute.tensors
        for sparse in ([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []) + list(
            attribute.sparse_tensors
        ):
            yield from (sparse.values, sparse.indices)


def _inner_graphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        yield from [attribute.g] if attribute.HasField("g") else []
        yield from attribute.graphs


def _texts(model: onnx.ModelProto) -> Iterator[object]:
    """Names and notes; protobuf gives bytes for what is no UTF-8."""
    yield from (model.producer_name, model.producer_version, *(each.domain for each in model.opset_import))
    for entry in model.metadata_props:
        yield from (entry.key, entry.value)
    nodes = list(function_nodes(model))
    for graph in graphs(model.graph):
        nodes += graph.node
        yield from (tensor.name for tensor in graph.initializer)
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield value.name
            yield from (axis.dim_param for axis in value.type.tensor_type.shape.dim)
    for node in nodes:
        yield from (node.name, node.op_type, node.domain, *node.input, *node.output)


def _locations(tensor: onnx.TensorProto) -> list[str]:
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return []
    return [entry.value for entry in tensor.external_data if entry.key == "location"]


def _elements(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= size
    return count


def _port(value: onnx.ValueInfoProto) -> GraphPort:
    if not value.type.HasField("tensor_type"):
        return GraphPort(value.name, str(value.type.WhichOneof("value") or "unknown").removesuffix("_type"), ("…",))
    tensor = value.type.tensor_type
    dtype = dtype_name(tensor.elem_type)
    if not tensor.HasField("shape"):
        return GraphPort(value.name, dtype, ("…",))
    shape = tuple(size.dim_value if size.HasField("dim_value") else size.dim_param for size in tensor.shape.dim)
    return GraphPort(value.name, dtype, shape)


def dtype_name(elem_type: int) -> str:
    """The name that NumPy (or ml_dtypes, for types that NumPy lacks) gives a tensor type of ONNX."""
    if not is_array_type(elem_type):
        return "string" if elem_type == onnx.TensorProto.STRING else "unknown"
    return str(onnx.helper.tensor_dtype_to_np_dtype(elem_type).name)


def is_array_type(elem_type: int) -> bool:
    """Whether ONNX knows the tensor type, and it is one of numbers or booleans."""
    not_arrays = (onnx.TensorProto.UNDEFINED, onnx.TensorProto.STRING)
    return elem_type in onnx.TensorProto.DataType.values() and elem_type not in not_arrays
