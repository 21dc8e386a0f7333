"""What units are worth by how large their answers are."""

# B batch, C channels, U units of a group

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from mlctl.compression.pruning.dependencies import Dependencies, Place, UnitGroup
from mlctl.compression.pruning.unit_weights import Scores, over_mean
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.training.batches import Batch
from mlctl.training.evaluation_mode import evaluation_mode


@dataclass(frozen=True)
class _Port:
    """The side of a layer at which a tensor's axis is seen: its first input, or its first output."""

    layer: str
    is_input: bool


@dataclass(frozen=True)
class _Sight:
    """A place, and the port at which its indices are channels, `folds` times behind one another."""

    place: Place
    port: _Port
    folds: int = 1


class _Sizes:
    """Sums of absolute values of what passes a port, for each channel, and how many there were."""

    def __init__(self, axis_from_end: int) -> None:
        self._axis = -axis_from_end
        self._sums: Tensor | None = None
        self._count = 0

    def add(self, passing: Tensor) -> None:
        """Values of any shape with the channels along one axis."""
        values = passing.detach().abs().movedim(self._axis, -1).flatten(0, -2)
        sums = values.sum(0, dtype=torch.float64)
        self._sums = sums if self._sums is None else self._sums + sums
        self._count += len(values)

    def means(self) -> NDArray[np.float64] | None:
        """Of each channel, [C]; None where nothing has passed."""
        return None if self._sums is None or not self._count else (self._sums / self._count).cpu().numpy()


def activation_sizes(model: CompleteModel, found: Dependencies, batches: Iterable[Batch]) -> dict[str, Scores]:
    """The mean absolute value of each unit over samples and places: [U] for each group.

    It is taken where the next layers read the unit, behind normalisation and activation, and of heads where the heads'
    answers are merged; over several readers it is their mean. Where no layer reads the group as its input (a user's own
    arithmetic does), it is taken at the group's own layer's output. Layers answer in quite different sizes, so that a
    group's scores are divided by their mean.

    The model's mode and weights stay, and memory is that of one batch. Raises StepFailed for a group that is seen
    nowhere.
    """
    parts = dict(model.network.named_modules())
    sights = {group.name: tuple(_sights(group, parts)) for group in found.groups}
    sizes = {sight.port: _Sizes(_axis_from_end(parts[sight.port.layer])) for each in sights.values() for sight in each}
    with ExitStack() as hooks, evaluation_mode(model), torch.no_grad():
        for port, each in sizes.items():
            hooks.callback(_hooked(parts[port.layer], port, each).remove)
        for batch in batches:
            model.raw_outputs(*batch.inputs)
    means = {port: each.means() for port, each in sizes.items()}
    return {group.name: over_mean(_score(group, sights[group.name], means)) for group in found.groups}


def _score(group: UnitGroup, sights: tuple[_Sight, ...], means: Mapping[_Port, NDArray[np.float64] | None]) -> Scores:
    for is_input in (True, False):
        found = [_of_units(sight, means[sight.port]) for sight in sights if sight.port.is_input is is_input]
        seen = [each for each in found if each is not None]
        if seen:
            mean: Scores = np.mean(seen, axis=0)
            return mean
    raise StepFailed(
        f"no layer is called whose input or output are the {group.kind} of {group.name}, so how large they are cannot "
        "be seen",
        next="choose another `importance`, such as l2, or name the layer under `protect`",
    )


def _of_units(sight: _Sight, means: NDArray[np.float64] | None) -> Scores | None:
    if means is None or len(means) % sight.folds:
        return None
    channels = means.reshape(sight.folds, -1).mean(0)
    if sight.place.indices.max() >= len(channels):
        return None
    found: Scores = channels[sight.place.indices].mean(1)
    return found


def _hooked(part: nn.Module, port: _Port, sizes: _Sizes) -> Any:
    if port.is_input:
        return part.register_forward_pre_hook(lambda _, inputs: sizes.add(inputs[0]))
    return part.register_forward_hook(lambda _, inputs, outputs: sizes.add(_first(outputs)))


def _first(outputs: Any) -> Tensor:
    found: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return found


def _sights(group: UnitGroup, parts: Mapping[str, nn.Module]) -> Iterator[_Sight]:
    """Everywhere that the group's units may be seen as channels."""
    for place in group.places:
        layer, _, tensor = place.tensor.rpartition(".")
        look = next((look for kind, look in LAYERS.items() if isinstance(parts[layer], kind)), None)
        seen = look(parts[layer], tensor, place.axis) if look else None
        if seen is not None:
            yield _Sight(place, _Port(layer, seen[0]), seen[1])


_Seen: TypeAlias = tuple[bool, int] | None
"""Whether an axis of a layer's tensor is that of its inputs, and how often it repeats there; None for neither."""


def _dense(part: nn.Module, tensor: str, axis: int) -> _Seen:
    return (axis == 1, 1) if tensor == "weight" else None


def _convolution(part: nn.Module, tensor: str, axis: int) -> _Seen:
    assert isinstance(part, _ConvNd)
    if tensor != "weight" or axis > 1:
        return None
    # The weight's second axis holds the channels of one of the groups, for all of them.
    return (axis == 0) is part.transposed, part.groups if axis == 1 else 1


def _embedding(part: nn.Module, tensor: str, axis: int) -> _Seen:
    return (False, 1) if axis == 1 else None


def _recurrent(part: nn.Module, tensor: str, axis: int) -> _Seen:
    assert isinstance(part, nn.RNNBase)
    if axis == 1 and tensor.startswith("weight_ih_l0"):
        return True, 1
    return (False, 2 if part.bidirectional else 1) if axis == 1 and tensor.startswith("weight_hh") else None


def _attention(part: nn.Module, tensor: str, axis: int) -> _Seen:
    return (True, 1) if axis == 1 and tensor == "in_proj_weight" else None


LAYERS: dict[type[nn.Module], Callable[[nn.Module, str, int], _Seen]] = {
    nn.Linear: _dense,
    _ConvNd: _convolution,
    nn.Embedding: _embedding,
    nn.RNNBase: _recurrent,
    nn.MultiheadAttention: _attention,
}
"""The layers whose inputs or outputs are looked at."""


def _axis_from_end(part: nn.Module) -> int:
    """Where the channels stand in the layer's inputs and outputs, counted from the end."""
    return part.weight.ndim - 1 if isinstance(part, _ConvNd) else 1
