"""A stateful network of torch becomes the graph that `decoding` describes."""

from collections.abc import Mapping
from typing import Final

import onnx
import torch

from mlctl.graphs.export import BATCH, convert_open

SEQUENCE: Final = "sequence"
PAST: Final = "past"

_EXAMPLE_TOKENS: Final = 5


def convert_decoder(step: torch.nn.Module, state: torch.Tensor, axes: Mapping[int, str], opset: int) -> onnx.ModelProto:
    """The graph of `step`, a module in evaluation mode from tokens and state to logits and next state, before any pass.

    `state` is an example of two texts after a few tokens; `axes` names its open dimensions: BATCH, and PAST where it
    grows, which `next_state` gives a name of its own. Raises what `convert_open` does.
    """
    tokens = torch.zeros(2, _EXAMPLE_TOKENS, dtype=torch.int64)
    dimensions = {(name, 0): BATCH for name in ("tokens", "logits")}
    dimensions |= {(name, 1): SEQUENCE for name in ("tokens", "logits")}
    dimensions |= {("state", axis): name for axis, name in axes.items()}
    dimensions |= {("next_state", axis): name for axis, name in axes.items() if name == BATCH}
    return convert_open(
        step,
        example=(tokens, state),
        input_names=("tokens", "state"),
        output_names=("logits", "next_state"),
        opset=opset,
        dimensions=dimensions,
    )
