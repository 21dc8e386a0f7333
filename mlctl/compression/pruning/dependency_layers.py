"""Modules of torch that are followed whole, for their operators hide what goes together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from mlctl.compression.pruning.dependency_labels import Labels
from mlctl.compression.pruning.dependency_trace import Trace, Weight
from mlctl.models.cut_attention import attended, is_plain


@contextmanager
def followed_whole(network: nn.Module, trace: Trace, unseen: Callable[[Callable[[], Any]], Any]) -> Iterator[None]:
    """Within it recurrent layers note at once what they do, and multi-head attention runs as operators that are known.

    `unseen` runs something whose operators nobody notes.
    """
    changed = []
    for module in network.modules():
        if isinstance(module, nn.RNNBase):
            module.forward = partial(_recurrent, module, trace, unseen, module.forward)
        elif isinstance(module, nn.MultiheadAttention) and is_plain(module):
            module.forward = partial(attended, module)  # type: ignore[method-assign]
        else:
            continue
        changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _recurrent(
    module: nn.RNNBase,
    trace: Trace,
    unseen: Callable[[Callable[[], Any]], Any],
    forward: Callable[..., Any],
    *inputs: Any,
) -> Any:
    """Run recurrent layers; all layers and directions have one number of units, at the same positions."""
    taken = inputs[0].data if isinstance(inputs[0], PackedSequence) else inputs[0]
    below = trace.of(taken)[-1]
    outputs, after = unseen(lambda: forward(*inputs))
    units = trace.labels.fresh(module.hidden_size)
    answers = trace.labels.fresh(module.proj_size) if module.proj_size else units
    if module.proj_size:
        # With as many units as answers torch takes the layer for one without a projection.
        trace.labels.freeze(units, "must stay more than the answers that they are projected to")
    steps = taken.numel() // taken.shape[-1]
    for layer in range(module.num_layers):
        for way in ("", "_reverse")[: 1 + module.bidirectional]:
            weights = {
                name: trace.origin(getattr(module, f"{name}_l{layer}{way}"))
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
                if hasattr(module, f"{name}_l{layer}{way}")
            }
            _note_layer(trace, {name: each for name, each in weights.items() if each}, (below, units, answers), steps)
        below = np.tile(answers, 1 + module.bidirectional)
    given = outputs.data if isinstance(outputs, PackedSequence) else outputs
    trace.set(given, (*(None,) * (given.ndim - 1), below))
    for tensor, labels in zip(_flat((after,)), (answers, units), strict=False):
        trace.set(tensor, (*(None,) * (tensor.ndim - 1), labels))
    for tensor, labels in zip(_flat(inputs[1:]), (answers, units), strict=False):
        known = trace.of(tensor)[-1]
        trace.labels.unite(
            labels, np.zeros_like(labels) if known is None else known, "starts from a state of fixed size"
        )
    return outputs, after


def _note_layer(
    trace: Trace, weights: dict[str, Weight], around: tuple[Labels | None, Labels, Labels], steps: int
) -> None:
    """Unite the weights of one layer and direction with what it reads, its units and its answers."""
    below, units, answers = around
    reason = "reads something of fixed size"
    for name, weight in weights.items():
        trace.used.add(weight.name)
        gates = units if name == "weight_hr" else np.tile(units, len(weight.axes[0]) // len(units))
        rows = answers if name == "weight_hr" else gates
        trace.labels.unite(weight.axes[0], rows, reason)
        if name.startswith("bias"):
            continue
        columns = {"weight_ih": below, "weight_hh": answers, "weight_hr": units}[name]
        trace.labels.unite(weight.axes[1], np.zeros_like(weight.axes[1]) if columns is None else columns, reason)
        trace.outputs.setdefault((weight.name, 0), "units")
        trace.note_product(steps * len(weight.axes[0]) * len(weight.axes[1]), weight)


def _flat(values: Any) -> Iterator[Tensor]:
    for each in values:
        if isinstance(each, Tensor):
            yield each
        elif isinstance(each, list | tuple):
            yield from _flat(each)
