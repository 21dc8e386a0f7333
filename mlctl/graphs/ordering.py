"""The order of a graph's nodes."""

from heapq import heapify, heappop, heappush

import onnx

from mlctl.graphs.cutting import reads


def sort_nodes(graph: onnx.GraphProto) -> None:
    """Put the nodes of `graph` into an order in which each stands below all that it reads, in place.

    As ONNX's specification demands; of two nodes that could stand next the one that stood first does, so the same
    graph always gives the same order (Kahn 1962). The graph has no cycle.
    """
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    needs = [{makers[name] for name in reads(node) if name in makers} for node in graph.node]
    readers: list[list[int]] = [[] for _ in graph.node]
    for index, needed in enumerate(needs):
        for maker in needed:
            readers[maker].append(index)
    missing = [len(needed) for needed in needs]
    ready = [index for index, count in enumerate(missing) if not count]
    heapify(ready)
    order = []
    while ready:
        index = heappop(ready)
        order.append(index)
        for reader in readers[index]:
            missing[reader] -= 1
            if not missing[reader]:
                heappush(ready, reader)
    nodes = [onnx.NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
    del graph.node[:]
    graph.node.extend(nodes)
