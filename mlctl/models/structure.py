"""What was kept of a network, as data, and the network that is cut to it."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import ConfigDict, TypeAdapter
from torch import Tensor, nn

from mlctl.models.sizes import resize

COUNTER_NAMES: Final = (
    "heads", "num_heads", "n_heads", "n_head", "nhead", "nheads", "num_attention_heads", "num_key_value_heads",
    "num_kv_heads", "n_kv_heads", "kv_heads",
)  # fmt: skip
"""Attributes of modules that hold how many heads there are."""

WIDTH_NAMES: Final = ("normalized_shape", "num_features")
"""Attributes of torch's normalizations that hold how many units there are."""


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter or buffer, by its name in the state_dict of the original network."""

    tensor: str
    axis: int


@dataclass(frozen=True)
class Kept:
    """Indices that stay, ascending and in the original's numbering, along every one of some axes."""

    indices: tuple[int, ...]
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class Structure:
    """What was kept of the network that a config builds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    kept: tuple[Kept, ...] = ()
    """Axes that are not named here stay whole."""
    counters: dict[str, int] = field(default_factory=dict)
    """Numbers that modules hold, by path: `blocks.0.attention.heads`."""
    removed: tuple[str, ...] = ()
    """Modules of a ModuleList or Sequential that were taken out whole, by their original names."""
    format: Literal[1] = 1

    @classmethod
    def of(
        cls, indices: Mapping[Axis, NDArray[np.int64]], counters: Mapping[str, int], removed: Iterable[str]
    ) -> "Structure":
        """The structure that keeps `indices` of every axis; what lies in removed modules is left out."""
        gone = tuple(sorted(set(removed)))
        axes: dict[tuple[int, ...], list[Axis]] = {}
        for axis, each in indices.items():
            if not _lies_in(axis.tensor, gone):
                axes.setdefault(tuple(each.tolist()), []).append(axis)
        held = {path: value for path, value in sorted(counters.items()) if not _lies_in(path, gone)}
        return cls(tuple(Kept(each, tuple(places)) for each, places in axes.items()), held, gone)

    def indices(self) -> dict[Axis, NDArray[np.int64]]:
        """What stays of every axis that is cut."""
        arrays = ((np.array(each.indices, np.int64), each.axes) for each in self.kept)
        return {axis: array for array, axes in arrays for axis in axes}


_STRUCTURE: Final = TypeAdapter(Structure)


def structure_to_json(structure: Structure) -> str:
    """The text of `structure.json`, one line for each set of axes that are cut alike."""
    found = _STRUCTURE.dump_python(structure, mode="json")
    kept = ",\n".join(f"  {json.dumps(each, separators=(',', ':'))}" for each in found.pop("kept"))
    rest = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in found.items())
    return f'{{\n "kept": [\n{kept}\n ],\n{rest}\n}}\n'


def structure_from_json(text: bytes) -> Structure:
    """The structure that `structure_to_json` wrote. Raises pydantic's ValidationError."""
    return _STRUCTURE.validate_json(text)


def restructured(network: nn.Module, structure: Structure) -> nn.Module:
    """The network that a config built, cut in place to what was kept; weights that stay keep their values.

    Parameters with several names keep them. Raises ValueError, which lists all that does not fit, before anything is
    changed.
    """
    problems = list(misfits(network, structure))
    if problems:
        raise ValueError("; ".join(problems))
    for path, value in structure.counters.items():
        _set_counter(network, path, value)
    touched = _cut(network, structure.indices())
    resize(network, touched)
    _take_out(network, structure.removed)
    return network


def _cut(network: nn.Module, indices: Mapping[Axis, NDArray[np.int64]]) -> set[str]:
    """Select along axes; the paths of the modules that this changed."""
    tensors = network.state_dict(keep_vars=True)
    names: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        names.setdefault(id(tensor), []).append(name)
    axes: dict[str, dict[int, NDArray[np.int64]]] = {}
    for axis, each in indices.items():
        axes.setdefault(names[id(tensors[axis.tensor])][0], {})[axis.axis] = each
    touched = set()
    for name, selections in axes.items():
        old = tensors[name]
        new = _selected(old.detach(), selections)
        if isinstance(old, nn.Parameter):
            new = nn.Parameter(new, requires_grad=old.requires_grad)
        for alias in names[id(old)]:
            path, _, attribute = alias.rpartition(".")
            setattr(network.get_submodule(path), attribute, new)
            touched.add(path)
    return touched


def _selected(values: Tensor, selections: Mapping[int, NDArray[np.int64]]) -> Tensor:
    """What stays of a tensor along its axes."""
    if not any(values.stride()):
        # One number in every place, which takes no memory: any part of it is as good as another.
        for place, each in selections.items():
            values = values.narrow(place, 0, len(each))
        return values
    for place, each in selections.items():
        values = values.index_select(place, torch.from_numpy(each).to(values.device))
    return values.contiguous()


def _set_counter(network: nn.Module, path: str, value: int) -> None:
    parent, _, attribute = path.rpartition(".")
    module = network.get_submodule(parent)
    old = getattr(module, attribute)
    setattr(module, attribute, (value,) if isinstance(old, tuple) else value)


def _take_out(network: nn.Module, removed: Iterable[str]) -> None:
    """Take members out of their lists, the last first, for those behind it move up."""
    for path in sorted(removed, key=lambda each: [int(part) if part.isdecimal() else -1 for part in each.split(".")])[
        ::-1
    ]:
        parent, _, number = path.rpartition(".")
        members = network.get_submodule(parent)
        assert isinstance(members, nn.ModuleList | nn.Sequential)
        del members[int(number)]


def misfits(network: nn.Module, structure: Structure) -> Iterator[str]:
    """Everything in a structure that does not fit the network that its config builds."""
    tensors = network.state_dict(keep_vars=True)
    seen: set[Axis] = set()
    for each in structure.kept:
        wrong = not each.indices or list(each.indices) != sorted(set(each.indices)) or each.indices[0] < 0
        for axis in each.axes:
            where = f"axis {axis.axis} of {axis.tensor}"
            if axis.tensor not in tensors or not 0 <= axis.axis < tensors[axis.tensor].ndim:
                yield f"there is no {where}"
            elif axis in seen:
                yield f"{where} is cut twice"
            elif wrong:
                yield f"{where} keeps nothing, or not in order"
            elif each.indices[-1] >= tensors[axis.tensor].shape[axis.axis]:
                yield f"{where} has no index {each.indices[-1]}"
            seen.add(axis)
    yield from (f"there is no number {path} to lower to {value}" for path, value in _wrong_counters(network, structure))
    members = _members(network)
    yield from (f"{path} is no member of a list" for path in structure.removed if path not in members)


def _wrong_counters(network: nn.Module, structure: Structure) -> Iterator[tuple[str, int]]:
    modules = dict(network.named_modules())
    for path, value in structure.counters.items():
        parent, _, name = path.rpartition(".")
        held = getattr(modules.get(parent), name, None) if name in COUNTER_NAMES + WIDTH_NAMES else None
        if isinstance(held, tuple) and len(held) == 1:
            held = held[0]
        if type(held) is not int or not 1 <= value <= held:
            yield path, value


def _members(network: nn.Module) -> set[str]:
    return {
        f"{path}.{name}" if path else name
        for path, module in network.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        for name in module._modules
        if name.isdecimal()
    }


def _lies_in(path: str, modules: Iterable[str]) -> bool:
    return any(path.startswith(f"{each}.") for each in modules)


def composed(first: Structure | None, second: Structure) -> Structure:
    """One structure, of the original network, for a network that was cut by `first` and then by `second`."""
    if first is None:
        return second
    indices = first.indices()
    for axis, each in second.indices().items():
        original = Axis(original_name(axis.tensor, first.removed), axis.axis)
        indices[original] = indices[original][each] if original in indices else each
    counters = first.counters | {original_name(path, first.removed): value for path, value in second.counters.items()}
    return Structure.of(
        indices, counters, (*first.removed, *(original_name(path, first.removed) for path in second.removed))
    )


def original_name(path: str, removed: tuple[str, ...]) -> str:
    """The name that `path` had before modules were `removed`: members of lists behind those had higher numbers."""
    found: list[str] = []
    for part in path.split("."):
        gone = [int(each.rpartition(".")[2]) for each in removed if each.rpartition(".")[0] == ".".join(found)]
        if gone and part.isdecimal():
            number = int(part)
            for each in sorted(gone):
                number += each <= number
            part = str(number)
        found.append(part)
    return ".".join(found)
