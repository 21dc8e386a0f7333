"""Which node of a float graph each kernel of an optimized graph works for.

ONNX Runtime fuses, renames and inserts nodes. A kernel belongs to the node that it is named after, or else to the one
whose output it gives. Conversions between integers and floats, or between layouts, belong to the node that they serve.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import onnx

_INTEGERS: Final = frozenset(
    {
        "ConvInteger",
        "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul",
        "MatMulInteger",
        "MatMulIntegerToFloat",
        "MatMulNBits",
        "QAttention",
        "QGemm",
    }
)

_BEFORE: Final = frozenset({"DynamicQuantizeLinear", "QuantizeLinear", "ReorderInput"})
"""Conversions that serve what reads them."""

_AFTER: Final = frozenset({"ReorderOutput"})
"""Conversions that serve what they read."""

_EITHER: Final = frozenset({"Cast", "DequantizeLinear", "Transpose"})
"""Conversions that serve the integer kernel they read, or else what reads them; where the float graph has them not."""

_BEGINNERS: Final = frozenset({"Attention", "Conv", "ConvTranspose", "Gather", "Gemm", "LSTM", "MatMul"})
"""Operators that are never fused into one before them."""

_MARKS: Final = ("_nchwc", "_nhwc", "_quant", "_token", "/")
"""What ONNX Runtime puts behind the name that a node had."""


@dataclass(frozen=True)
class KernelTimes:
    """Milliseconds of one call by node of the float graph, and the nodes for which integers were made or used.

    A node that was fused into another has no time of its own.
    """

    milliseconds: Mapping[str, float]
    integers: frozenset[str]


def kernel_times(graph: onnx.GraphProto, optimized: onnx.GraphProto, milliseconds: Mapping[str, float]) -> KernelTimes:
    """`milliseconds` holds the time of every kernel of `optimized` by its name; `graph` is the float one."""
    owners = _Owners(graph, optimized)
    times, integers = defaultdict[str, float](float), set[str]()
    for node in optimized.node:
        owned = owners.of(node)
        for name in owned:
            times[name] += milliseconds.get(node.name, 0.0) / len(owned)
        if is_integer(node) or node.op_type in ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"):
            integers.update(owned)
    return KernelTimes(dict(times), frozenset(integers))


def is_integer(node: onnx.NodeProto) -> bool:
    """Whether the kernel computes with integers or unpacks them."""
    return node.op_type in _INTEGERS or node.op_type.startswith("QLinear")


class _Owners:
    def __init__(self, graph: onnx.GraphProto, optimized: onnx.GraphProto) -> None:
        self._names: set[str] = {node.name for node in graph.node}
        self._makers: dict[str, str] = {name: node.name for node in graph.node for name in node.output}
        self._producers = {name: node for node in optimized.node for name in node.output}
        self._readers = defaultdict[str, list[onnx.NodeProto]](list)
        for node in optimized.node:
            for name in dict.fromkeys(node.input):
                self._readers[name].append(node)

    def of(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """The nodes that share the time of this one; none for what serves no node of the float graph."""
        if not self._is_conversion(node):
            named = self._named(node)
            return (named,) if named else ()
        before, after = self._origins(node), self._destinations(node)
        if node.op_type in _AFTER or (node.op_type in _EITHER and any(is_integer(each) for each in before)):
            before, after = after, before
        found = [self._named(each) for each in after] or [self._named(each) for each in before]
        return tuple(dict.fromkeys(name for name in found if name))

    def _named(self, node: onnx.NodeProto) -> str | None:
        wish = node.name
        while wish.startswith("fused "):
            wish = wish.removeprefix("fused ")
        for name in _shorter(wish):
            if name in self._names:
                return name
            if name in self._makers:
                return self._makers[name]
        return next((self._makers[name] for name in node.output if name in self._makers), None)

    def _is_conversion(self, node: onnx.NodeProto) -> bool:
        if node.op_type in _BEFORE or node.op_type in _AFTER or node.op_type == "DequantizeLinear":
            return True
        return node.op_type in _EITHER and node.name not in self._names

    def _origins(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The kernels whose answers reach the node through nothing but conversions."""
        found: list[onnx.NodeProto] = []
        for name in node.input[:1]:
            producer = self._producers.get(name)
            if producer is not None:
                found += self._origins(producer) if self._is_conversion(producer) else [producer]
        return found

    def _destinations(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """The kernels that the node's answer reaches through nothing but conversions."""
        found: list[onnx.NodeProto] = []
        for reader in (reader for name in node.output for reader in self._readers[name]):
            found += self._destinations(reader) if self._is_conversion(reader) else [reader]
        return found


def regions(graph: onnx.GraphProto, targets: Iterable[str], *runs: KernelTimes) -> Iterator[frozenset[str]]:
    """Sets of nodes that can be compared between the runs, each with one target or more, in the graph's order.

    A target comes with the nodes behind it that have no kernel of their own in one run or another, since they were
    fused into something; sets that meet become one.
    """
    readers = defaultdict[str, list[onnx.NodeProto]](list)
    for node in graph.node:
        for name in node.input:
            readers[name].append(node)
    outputs = {node.name: node.output for node in graph.node}
    joined: list[set[str]] = []
    for target in targets:
        region = {target}
        ahead = [target]
        while ahead:
            for node in (node for name in outputs[ahead.pop()] for node in readers[name]):
                is_fused = any(node.name not in run.milliseconds for run in runs)
                if is_fused and node.name not in region and node.op_type not in _BEGINNERS:
                    region.add(node.name)
                    ahead.append(node.name)
        meeting = [each for each in joined if each & region]
        joined = [each for each in joined if not each & region]
        joined.append(region.union(*meeting))
    yield from (frozenset(each) for each in joined)


def _shorter(name: str) -> Iterator[str]:
    """The name, and what is left of it when the marks of the optimizer are cut off its end, longest first."""
    yield name
    places = sorted({place for mark in _MARKS for place in _places(name, mark)}, reverse=True)
    yield from (name[:place] for place in places if place > 0)


def _places(name: str, mark: str) -> Iterator[int]:
    place = name.find(mark)
    while place >= 0:
        yield place
        place = name.find(mark, place + 1)
