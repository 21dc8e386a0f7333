"""A part of a graph: what is needed for some of its tensors, and nothing else."""

from collections.abc import Iterator, Sequence

import onnx

from mlctl.graphs.inspection import graphs


def cut_to(model: onnx.ModelProto, names: Sequence[str]) -> None:
    """Make the tensors `names` the outputs of `model`, in place, and drop what none of them needs.

    The inputs stay all, in their order. Their types are left to whoever loads the graph; each must be float32.
    """
    graph = model.graph
    wanted = set(names)
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            kept.append(node)
            wanted.update(reads(node))
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(nodes)
    for index in reversed(range(len(graph.initializer))):
        if graph.initializer[index].name not in wanted:
            del graph.initializer[index]
    del graph.output[:]
    graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Names that the node reads, those of the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
            for each in graphs(inner):
                for inside in each.node:
                    yield from inside.input
                yield from (output.name for output in each.output)
