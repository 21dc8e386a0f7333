"""Rules of what multiplies and adds: matrix products and convolutions."""

from collections.abc import Sequence
from math import prod
from typing import Final

import numpy as np
from torch import Tensor

from mlctl.compression.pruning.dependency_labels import Dimensions, Labels
from mlctl.compression.pruning.dependency_shapes import beside
from mlctl.compression.pruning.dependency_trace import Call, Trace


def aligned(shape: Sequence[int], wanted: Sequence[int]) -> list[tuple[int, int]]:
    """Sizes of a tensor and of the answer that it is spread to, from the answer's first dimension on; 0 for none."""
    return list(zip((0,) * (len(wanted) - len(shape)) + tuple(shape), wanted, strict=True))


def spread(known: Dimensions, shape: Sequence[int], wanted: Sequence[int]) -> Dimensions:
    """The dimensions of a tensor that is spread to the answer's, from the answer's first on."""
    return (None,) * (len(wanted) - len(shape)) + tuple(known)


def unite_first(trace: Trace, labels: Labels | None, tensors: Sequence[Tensor | None]) -> None:
    """Unite labels with those along the first dimension of tensors that are there."""
    for each in tensors:
        if each is not None:
            beside(trace, [[labels], [trace.of(each)[0]]], each.shape, "is normalized with")


def product(trace: Trace, call: Call) -> None:
    """Matrix products, with something added where the operator says so."""
    *added, one, other = call.tensors
    first, second = trace.of(one), trace.of(other)
    batch = beside(trace, [first[:-2], second[:-2]], one.shape[:-2], "is multiplied by")
    beside(trace, [[first[-1]], [second[-2]]], [one.shape[-1]], "is read beside")
    found: Dimensions = (*batch, first[-2], second[-1])
    sizes = call.result.shape
    for each in added:
        stands = [size == wanted for size, wanted in aligned(each.shape, sizes)]
        known = spread(trace.of(each), each.shape, sizes)
        for place, is_there in enumerate(stands):
            if is_there:
                beside(trace, [[found[place]], [known[place]]], [sizes[place]], "is added to")
    _note_weight(trace, one, other, prod(sizes) * one.shape[-1], found, first[-1])
    trace.set(call.result, found)


def _note_weight(
    trace: Trace, one: Tensor, other: Tensor, multiply_adds: int, found: Dimensions, inner: Labels | None
) -> None:
    weight = trace.origin(other)
    outputs = found[-1]
    if weight is None:
        weight, outputs = trace.origin(one), found[-2]
    if weight is not None:
        trace.note_output(weight, outputs, "units")
    trace.note_product(multiply_adds, weight, *found, inner)


def vector_product(trace: Trace, call: Call) -> None:
    """A matrix times a vector."""
    *_, one, other = call.tensors
    first, second = trace.of(one), trace.of(other)
    beside(trace, [[first[-1]], [second[0]]], [one.shape[-1]], "is read beside")
    trace.note_product(one.numel(), trace.origin(one), *first)
    trace.set(call.result, first[:-1])


def convolution(trace: Trace, call: Call) -> None:
    """Convolutions, transposed or not: units are channels; how they go together depends on the groups."""
    image, kernel = call["input"], call["weight"]
    known, axes = trace.of(image), trace.of(kernel)
    given, taken = (1, 0) if call["transposed"] else (0, 1)
    groups = call["groups"]
    if groups == 1:
        beside(trace, [[known[1]], [axes[taken]]], [image.shape[1]], "is read beside")
        channels = axes[given]
    elif image.shape[1] == groups:
        channels = _depthwise(trace, known[1], kernel, is_transposed=call["transposed"])
    else:
        channels = _grouped(trace, known[1], kernel, groups, is_transposed=call["transposed"])
    weight = trace.origin(kernel)
    if weight is not None:
        trace.note_output(weight, axes[given], "channels")
    unite_first(trace, channels, [call["bias"]])
    numbers = image if call["transposed"] else call.result
    trace.note_product(numbers.numel() * prod(kernel.shape[1:]), weight, channels)
    trace.set(call.result, (known[0], channels, *(None,) * (image.ndim - 2)))
    for each in (*known[2:], *axes[2:]):
        trace.labels.freeze(each, "is a side of an image")


_GROUPED: Final = "goes with a group of fixed size"


def _depthwise(trace: Trace, channels: Labels | None, kernel: Tensor, *, is_transposed: bool) -> Labels | None:
    """One group for every channel: what a channel becomes goes with it."""
    axes, groups = trace.of(kernel), kernel.shape[0]
    if is_transposed:
        trace.labels.freeze(axes[1] if kernel.shape[1] > 1 else None, _GROUPED)
        beside(trace, [[channels], [axes[0]]], [groups], "is read beside")
        return None if axes[0] is None else np.repeat(axes[0], kernel.shape[1])
    found = axes[0]
    if found is None or channels is None:
        trace.labels.freeze(found, "has one kernel for every channel of an input of fixed size")
        return None
    trace.labels.unite(found, np.repeat(channels, groups // len(channels)), "is read beside something of fixed size")
    return found


def _grouped(
    trace: Trace, channels: Labels | None, kernel: Tensor, groups: int, *, is_transposed: bool
) -> Labels | None:
    """Channels at one position of every group go together, on both sides."""
    axes = trace.of(kernel)
    along_first = None if axes[0] is None else trace.labels.unite_along(axes[0].reshape(groups, -1), 0, _GROUPED)
    given, taken = (axes[1], along_first) if is_transposed else (along_first, axes[1])
    if channels is not None:
        channels = trace.labels.unite_along(channels.reshape(groups, -1), 0, _GROUPED)
    beside(
        trace,
        [[channels], [taken]],
        [kernel.shape[0] // groups if is_transposed else kernel.shape[1]],
        "is read beside",
    )
    return None if given is None else np.tile(given, groups)
