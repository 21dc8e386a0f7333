"""A part of a graph: what is needed for some of its tensors, and nothing else."""

from collections.abc import Iterator, Sequence

import onnx

from mlctl.graphs.inspection import graphs


def cut_to(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make the tensors `names` the outputs of `model`, in place, and drop what none of them needs.

    The inputs stay all, in their order. Their types are left to whoever loads the graph; each must be float32.
    """
    graph = model.graph
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in needed_nodes(graph.node, names)]
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in reads(node)}
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in read:
            del graph.initializer[index]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)


def needed_nodes(nodes: Sequence[onnx.NodeProto], names: Sequence[str]) -> list[onnx.NodeProto]:
    """Those of `nodes` that the tensors `names` need, in their order; what is read is made before."""
    wanted, needed = set(names), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            needed.append(node)
            wanted.update(reads(node))
    return needed[::-1]


def reduce_to_extremes(model: onnx.ModelProto) -> None:
    """Replace every output of `model`, in place, by its smallest value, its largest and its sum, in this order.

    They stand right below the node that makes the tensor, so that ONNX Runtime frees it before it makes the next one.
    What is no number is lost in ONNX Runtime's extremes; a sum keeps it.
    """
    graph = model.graph
    names = [port.name for port in graph.output]
    below = {name: [_reduction(kind, name) for kind in ("ReduceMin", "ReduceMax", "ReduceSum")] for name in names}
    order = [node for port in graph.input for node in below.get(port.name, [])]
    for node in graph.node:
        order += [onnx.NodeProto.FromString(node.SerializeToString())]
        order += [reduction for name in node.output for reduction in below.get(name, [])]
    del graph.node[:]
    graph.node.extend(order)
    del graph.output[:]
    results = (reduction.output[0] for name in names for reduction in below[name])
    graph.output.extend(onnx.helper.make_tensor_value_info(each, onnx.TensorProto.FLOAT, []) for each in results)


def _reduction(kind: str, tensor: str) -> onnx.NodeProto:
    name = f"{tensor}/{kind}"
    return onnx.helper.make_node(kind, [tensor], [name], name, keepdims=0)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the node reads, those of the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for each in graphs(inner):
                for inside in each.node:
                    yield from inside.input
                yield from (output.name for output in each.output)
