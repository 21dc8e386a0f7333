"""What the nodes that stay in float read, in a graph that others read as integers."""

from collections.abc import Collection, Mapping
from typing import Final

import onnx

STORED: Final = "_quantized"
"""What ONNX Runtime's quantizer appends to the name of a weight that it stores as integers."""


def shared_weights(model: onnx.ModelProto, integers: Collection[str]) -> dict[str, onnx.TensorProto]:
    """Copies of the initializers that both the nodes `integers` and others read, by name."""
    readers: dict[bool, set[str]] = {True: set(), False: set()}
    for node in model.graph.node:
        readers[node.name in integers].update(node.input)
    both = readers[True] & readers[False]
    return {
        each.name: onnx.TensorProto.FromString(each.SerializeToString())
        for each in model.graph.initializer
        if each.name in both
    }


def spare_floats(
    written: onnx.ModelProto,
    floats: Collection[str],
    shared: Mapping[str, onnx.TensorProto],
    makers_of_floats: Collection[str] = (),
) -> None:
    """Let the nodes `floats` of a quantized graph read floats where there are any.

    ONNX Runtime's quantizer hands the rounded values of a tensor to all who read it when one of them asks: of a weight
    that two nodes share, and of what flows past attention. What an integer node makes stays rounded for all, since the
    rounding is fused into it; operators `makers_of_floats` make floats all the same.
    """
    makers = {name: node for node in written.graph.node for name in node.output}
    origins = {}
    for node in written.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        rounding = makers.get(node.input[0])
        origin = rounding.input[0] if rounding else node.input[0].removesuffix(STORED)
        maker = makers.get(origin)
        is_float = not maker or maker.name in floats or maker.op_type in makers_of_floats
        if origin in shared or (rounding and is_float):
            origins[node.output[0]] = origin
    # A bias is dequantized under its own name, from 32 bits that no one misses.
    there = {each.name for each in written.graph.initializer}.union(makers)
    for node in written.graph.node:
        if node.name in floats:
            node.input[:] = [origins.get(name, name) for name in node.input]
            missing = {name for name in node.input if name in shared} - there
            written.graph.initializer.extend(shared[name] for name in sorted(missing))
            there |= missing
