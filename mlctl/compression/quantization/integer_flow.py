"""Rewrites of a float graph that change no answer, and let integers flow where floats would stand in between."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import onnx
from onnx import helper, numpy_helper

from mlctl.compression.quantization.thresholds import Range

FLATTENED = "_flat"
"""What the name of a node ends in that flattens a pooled mean."""

UNPOOLED = "_unpooled"
"""What the name of a tensor ends in that is pooled only afterwards."""

MOST = 255
"""The largest value of a raw uint8 input."""


@dataclass(frozen=True)
class ByteInput:
    """A graph's uint8 input that is only divided by a number before it is used: it is made of integers already.

    `tensor` is the float tensor that comes of it, `divisor` the number.
    """

    source: str
    tensor: str
    divisor: float

    @property
    def range(self) -> Range:
        """The range whose 256 levels are exactly the raw values."""
        return Range(0.0, MOST / self.divisor)


def byte_inputs(model: onnx.ModelProto) -> tuple[ByteInput, ...]:
    """Every such input of `model`."""
    return tuple(_byte_inputs(model.graph))


def _byte_inputs(graph: onnx.GraphProto) -> Iterator[ByteInput]:
    bytes_in = {port.name for port in graph.input if port.type.tensor_type.elem_type == onnx.TensorProto.UINT8}
    scalars = {each.name: each for each in graph.initializer if not each.dims or list(each.dims) == [1]}
    casts = {node.output[0]: node.input[0] for node in graph.node if _is_cast_of(node, bytes_in)}
    divided = {node.input[0] for node in graph.node if node.op_type == "Div"}
    for node in graph.node:
        if node.op_type == "Div" and node.input[0] in casts and node.input[1] in scalars:
            divisor = float(numpy_helper.to_array(scalars[node.input[1]]).reshape(()))
            if divisor > 0:
                yield ByteInput(casts[node.input[0]], node.output[0], divisor)
    yield from (ByteInput(source, tensor, 1.0) for tensor, source in casts.items() if tensor not in divided)


def _is_cast_of(node: onnx.NodeProto, names: Collection[str]) -> bool:
    return node.op_type == "Cast" and node.input[0] in names and node.attribute[0].i == onnx.TensorProto.FLOAT


def take_bytes(model: onnx.ModelProto, raw: ByteInput) -> None:
    """Let what reads the rounded form of `raw.tensor` read the raw input itself, in place, where the levels agree."""
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] == raw.tensor and _is_unsigned(model, node.input[2]):
            rounded = node.output[0]
            model.graph.node.remove(node)
            for reader in model.graph.node:
                for place, name in enumerate(reader.input):
                    if name == rounded:
                        reader.input[place] = raw.source
            _drop_unread(model, [raw.tensor])
            return


def _is_unsigned(model: onnx.ModelProto, zero_point: str) -> bool:
    found = next(each for each in model.graph.initializer if each.name == zero_point)
    return found.data_type == onnx.TensorProto.UINT8 and not numpy_helper.to_array(found).any()


def _drop_unread(model: onnx.ModelProto, tensors: list[str]) -> None:
    """Drop the nodes that give `tensors`, and those before them, where nothing reads them any more."""
    graph = model.graph
    while tensors:
        tensor = tensors.pop()
        is_read = any(tensor in node.input for node in graph.node) or any(tensor == port.name for port in graph.output)
        maker = next((node for node in graph.node if tensor in node.output), None)
        if maker is not None and not is_read:
            tensors.extend(maker.input)
            graph.node.remove(maker)


def relu_first(model: onnx.ModelProto) -> dict[str, str]:
    """Put every ReLU that follows a max-pool before it, in place: the two commute.

    The kernels of integers join a ReLU with the convolution before it, and pool integers as they are. Returns, for
    every tensor that is new, between the two, the tensor after both, which has the same range.
    """
    readers = Counter(name for node in model.graph.node for name in node.input)
    readers.update(port.name for port in model.graph.output)
    pools = {node.output[0]: node for node in model.graph.node if node.op_type == "MaxPool" and len(node.output) == 1}
    between = {}
    for index, node in enumerate(model.graph.node):
        pool = pools.get(node.input[0]) if node.op_type == "Relu" else None
        if pool is None or readers[node.input[0]] > 1:
            continue
        # A name of its own: what lies there has another shape than what lay there before.
        before, middle, after = pool.input[0], f"{node.output[0]}{UNPOOLED}", node.output[0]
        relu = onnx.NodeProto.FromString(node.SerializeToString())
        relu.input[0], relu.output[0] = before, middle
        pooled = onnx.NodeProto.FromString(pool.SerializeToString())
        pooled.input[0], pooled.output[0] = middle, after
        pool.CopyFrom(relu)
        model.graph.node[index].CopyFrom(pooled)
        between[middle] = after
    return between


def global_means(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the nodes that take the mean of each channel of an image, for which there is a kernel of integers.

    `model` holds the shapes of its tensors.
    """
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in model.graph.value_info}
    small = {each.name: each for each in model.graph.initializer if each.HasField("raw_data") or each.int64_data}
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "ReduceMean" and ranks.get(node.input[0]) == 4 and _axes(node, small) in ((2, 3), (-2, -1))
    )


def _axes(node: onnx.NodeProto, small: dict[str, onnx.TensorProto]) -> tuple[int, ...]:
    if len(node.input) > 1 and node.input[1] in small:
        return tuple(sorted(int(axis) for axis in numpy_helper.to_array(small[node.input[1]])))
    return next((tuple(sorted(each.ints)) for each in node.attribute if each.name == "axes"), ())


def pool_means(model: onnx.ModelProto, names: Collection[str]) -> dict[str, str]:
    """Write the nodes `names`, some of `global_means`, as GlobalAveragePool, in place; they keep their names.

    Returns, for every tensor that is new, the tensor that holds the same numbers.
    """
    same = {}
    for index in reversed(range(len(model.graph.node))):
        node = model.graph.node[index]
        if node.name not in names:
            continue
        keeps = next((each.i for each in node.attribute if each.name == "keepdims"), 1)
        pooled = node.output[0] if keeps else f"{node.output[0]}_pooled"
        pool = helper.make_node("GlobalAveragePool", [node.input[0]], [pooled], node.name)
        pool.metadata_props.extend(node.metadata_props)
        flatten = helper.make_node("Flatten", [pooled], [node.output[0]], f"{node.name}{FLATTENED}", axis=1)
        model.graph.node[index].CopyFrom(pool)
        if not keeps:
            model.graph.node.insert(index + 1, flatten)
            same[pooled] = flatten.output[0]
    return same
