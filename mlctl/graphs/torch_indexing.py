"""ONNX's operators that take numbers by their places, in torch."""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, wholes_of


def _gather(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", 0)

    def taken(values: Tensor, places: Tensor) -> Tensor:
        along = axis % values.ndim
        size = values.shape[along]
        # Places may count from the end.
        found = torch.where(places < 0, places + size, places).to(torch.int64)
        if along == 0 and values.ndim == 2 and values.is_floating_point():
            return functional.embedding(found, values)
        rows = values.index_select(along, found.flatten())
        return rows.reshape(*values.shape[:along], *found.shape, *values.shape[along + 1 :])

    return taken


def _gather_elements(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", 0)

    def taken(values: Tensor, places: Tensor) -> Tensor:
        size = values.shape[axis]
        return values.gather(axis, torch.where(places < 0, places + size, places).to(torch.int64))

    return taken


def _gather_by_rows(attributes: Attributes) -> Operation:
    attributes.require(attributes.whole("batch_dims", 0) == 0, "batch_dims")

    def taken(values: Tensor, places: Tensor) -> Tensor:
        return values[tuple(places.to(torch.int64).unbind(-1))]

    return taken


def _slice(attributes: Attributes) -> Operation:
    given = tuple(attributes.wholes(name) for name in ("starts", "ends", "axes"))

    def cut(
        values: Tensor,
        starts: Tensor | None = None,
        ends: Tensor | None = None,
        axes: Tensor | None = None,
        steps: Tensor | None = None,
    ) -> Tensor:
        asked = [
            fixed if each is None else wholes_of(each) for fixed, each in zip(given, (starts, ends, axes), strict=True)
        ]
        along = asked[2] or tuple(range(len(asked[0])))
        strides = (1,) * len(along) if steps is None else wholes_of(steps)
        for start, end, axis, step in zip(asked[0], asked[1], along, strides, strict=True):
            values = _along(values, axis % values.ndim, slice(start, end, step))
        return values

    return cut


def _along(values: Tensor, axis: int, wanted: slice) -> Tensor:
    size = values.shape[axis]
    if wanted.step > 0:
        return values[(slice(None),) * axis + (wanted,)]
    # Backwards, an end before the first element is written as a number far below zero.
    end = wanted.stop if wanted.stop is not None and wanted.stop >= -size else None
    places = range(size)[slice(wanted.start, end, wanted.step)]
    return values.index_select(axis, torch.tensor(places, dtype=torch.int64, device=values.device))


def _scatter_elements(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", 0)
    attributes.require(attributes.text("reduction", "none") == "none", "a reduction")

    def placed(values: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        size = values.shape[axis]
        return values.scatter(axis, torch.where(places < 0, places + size, places), updates)

    return placed


def _scatter_by_rows(attributes: Attributes) -> Operation:
    attributes.require(attributes.text("reduction", "none") == "none", "a reduction")

    def placed(values: Tensor, places: Tensor, updates: Tensor) -> Tensor:
        return values.index_put(tuple(places.to(torch.int64).unbind(-1)), updates)

    return placed


def _one_hot(attributes: Attributes) -> Operation:
    axis = attributes.whole("axis", -1)

    def marked(places: Tensor, depth: Tensor, values: Tensor) -> Tensor:
        count = int(depth)
        levels = torch.arange(count, device=places.device)
        whole = places.to(torch.int64)
        along = axis if axis >= 0 else axis + places.ndim + 1
        is_there = torch.where(whole < 0, whole + count, whole).unsqueeze(along).movedim(along, -1) == levels
        return torch.where(is_there.movedim(-1, along), values[1], values[0])

    return marked


INDEXING: Final[Mapping[str, Operator]] = {
    "Gather": Operator(_gather),
    "GatherElements": Operator(_gather_elements),
    "GatherND": Operator(_gather_by_rows),
    "OneHot": Operator(_one_hot, frozenset({1})),
    "ScatterElements": Operator(_scatter_elements),
    "ScatterND": Operator(_scatter_by_rows),
    "Slice": Operator(_slice, frozenset({1, 2, 3, 4})),
}
"""By the operator's name."""
