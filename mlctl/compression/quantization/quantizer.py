"""What every method of quantization offers, so that accuracy and speed are kept by one search."""

from dataclasses import dataclass
from typing import Protocol

import onnx


class Quantizer(Protocol):
    """A float graph that can be written with integers, node by node."""

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that this method turns into integers, in the graph's order."""
        ...

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """A new graph with all of `nodes` as integers, but for those in `kept`, which stay in float."""
        ...


@dataclass(frozen=True)
class Without:
    """A quantizer that always leaves the nodes `kept` in float."""

    quantizer: Quantizer
    kept: frozenset[str]

    @property
    def nodes(self) -> tuple[str, ...]:
        """Names of the nodes that are still turned into integers, in the graph's order."""
        return tuple(name for name in self.quantizer.nodes if name not in self.kept)

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """The graph with all of `nodes` as integers, but for those in `kept` too."""
        return self.quantizer.quantized(self.kept | kept)
