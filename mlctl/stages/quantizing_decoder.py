"""A quantized language model's decoder: the parent's, made of the same integers."""

from collections.abc import Collection
from typing import TYPE_CHECKING

from mlctl.compression.quantization.quantizer import Without
from mlctl.engine.stage import Work
from mlctl.events import Note
from mlctl.graphs.cleaning import module_scopes
from mlctl.runtime.answers import Arrays
from mlctl.runtime.generation import DECODER_NAME, empty_state
from mlctl.runtime.session import OnnxSession
from mlctl.stages.quantizers import FIXED_RANGES, Making

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

LEFT_OUT = "the decoder is left out: ranges are those of whole texts; generating reads its window again for every token"


class _DecoderMaking(Making):
    """A decoder's graph, fed with whole texts from an empty state."""

    def batches(self) -> list[Arrays]:
        """As the model's own, with a state beside the tokens."""
        session = OnnxSession(self.graph, threads=self.work.threads)
        return [(tokens, empty_state(session, len(tokens))) for (tokens,) in super().batches()]


def quantized_decoder(making: Making, floats: Collection[str], work: Work) -> "ModelProto | None":
    """The graph of the parent's decoder as `making` turns the parent; None where there is none, or none can be.

    `floats` names nodes of the parent that stay in float; what the decoder calls for the same purpose does so too.
    """
    path = making.graph.with_name(DECODER_NAME)
    if not path.exists():
        return None
    if making.method in FIXED_RANGES:
        work.choices["decoder"] = LEFT_OUT
        work.tell(Note(LEFT_OUT))
        return None
    exclude = making.settings.exclude.model_copy(update={"nodes": ()})
    settings = making.settings.model_copy(update={"exclude": exclude})
    own = _DecoderMaking(settings, making.scheme, making.seed, path, making.prepared, work)
    quantizer = own.quantizer()
    kept = {call for name, call in _calls(making.nodes.graph).items() if name in floats}
    staying = frozenset(name for name, call in _calls(own.nodes.graph).items() if call in kept)
    return Without(quantizer, staying).quantized()


def _calls(graph: "GraphProto") -> dict[str, tuple[str, str]]:
    """By a node's name its operator, and the call that it was made for, which both graphs of a network number alike."""
    return {node.name: (module_scopes(node)[-1], node.op_type) for node in graph.node if module_scopes(node)}
