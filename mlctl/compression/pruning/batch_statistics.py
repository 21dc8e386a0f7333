"""Batch normalization's running figures, taken anew once a network is cut."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.training.batches import Batch
from mlctl.training.evaluation_mode import evaluation_mode


def take_batch_statistics(model: CompleteModel, batches: Iterable[Batch]) -> int:
    """Replace the running means and variances of batch normalizations by their means over `batches`, each by its
    samples; how many layers have new ones.

    What stands behind a cut sees other values than it has learnt from. All else is in evaluation mode, so that chance
    has no part; no weight changes, and the model's mode stays. Memory is that of one batch, and without batch
    normalization no batch is read. A layer that no batch reaches keeps its figures.

    Raises StepFailed for a batch of one sample, which has no variance.
    """
    layers = [part for part in model.network.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    if not layers:
        return 0
    with evaluation_mode(model), _cumulative(layers) as seen, torch.no_grad():
        for batch in batches:
            if len(batch.targets) < 2:
                raise StepFailed(
                    "batch normalization's figures cannot be taken of a batch of one sample",
                    next="raise `samples` and the batch size to 2 or more",
                )
            model.raw_outputs(*batch.inputs)
        return len(seen)


@contextmanager
def _cumulative(layers: Sequence[_BatchNorm]) -> Iterator[dict[_BatchNorm, int]]:
    """Within it, running figures are means over all samples so far, of which each layer's number is given."""
    seen: dict[_BatchNorm, int] = {}
    momenta = [layer.momentum for layer in layers]

    def before(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        if layer not in seen and layer.num_batches_tracked is not None:
            layer.num_batches_tracked.zero_()
        samples = len(inputs[0])
        seen[layer] = seen.get(layer, 0) + samples
        # 1 at first, so that nothing of the old figures stays.
        layer.momentum = samples / seen[layer]

    hooks = [layer.register_forward_pre_hook(before) for layer in layers]
    try:
        for layer in layers:
            layer.train()
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
