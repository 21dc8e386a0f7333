"""Which weights go: the smallest of all, of a layer, of an output, or of every group of a pattern."""

# O outputs of a layer, I inputs of one output, K weights of one output, M weights of a group

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from mlctl.compression.pruning.prunable_weights import Weight
from mlctl.compression.pruning.ranking import ranks, smallest
from mlctl.errors import StepFailed
from mlctl.recipe.wording import listed

Lengths: TypeAlias = Mapping[str, Tensor]
"""How long the inputs of a weight were, by its name: [O or 1, I] float32."""

Choice: TypeAlias = tuple[Tensor, ...]
"""For every weight what goes: bool in its parameter's shape."""


def by_size(weights: Sequence[Weight], share: float, scope: Literal["global", "layer"]) -> Choice:
    """The smallest weights (Han et al. 2015), of all together or of each layer: the nearest whole number to `share`.

    Raises StepFailed where a layer would be left without any.
    """
    sizes = [_sizes(weight) for weight in weights]
    if scope == "layer":
        chosen = tuple(smallest(size, round(share * size.numel())) for size in sizes)
    else:
        every = torch.cat([size.flatten() for size in sizes])
        parts = torch.split(smallest(every, round(share * len(every))), [size.numel() for size in sizes])
        chosen = tuple(part.view(size.shape) for part, size in zip(parts, sizes, strict=True))
    return _leaving_some(weights, chosen, share)


def by_output(weights: Sequence[Weight], share: float, lengths: Lengths) -> Choice:
    """Of the weights of every output those with the smallest |weight| x length of its input (Sun et al. 2023, eq. 1).

    A layer loses the nearest whole number to `share` of its weights, each of its outputs as many as any other or one
    more. Where no length is known it is taken for 1. Raises StepFailed where a layer would be left without any.
    """
    chosen = []
    for weight in weights:
        scores = _scores(weight, lengths)
        rows = scores.flatten(1)  # [O, K]
        bounds = [round(share * rows.shape[1] * row) for row in range(len(rows) + 1)]
        counts = torch.tensor(bounds, device=rows.device).diff()
        chosen.append(weight.as_stored((ranks(rows, 1) < counts[:, None]).reshape(scores.shape)))
    return _leaving_some(weights, tuple(chosen), share)


def by_pattern(weights: Sequence[Weight], dropped: int, group: int, lengths: Lengths) -> Choice:
    """The `dropped` smallest of every `group` weights that follow one another along the inputs.

    For a convolution these are channels, at one place of the kernel: products are summed over them, and there sparse
    matrix units want the pattern (NVIDIA's 2:4, Mishra et al. 2021, arXiv 2104.08378; N:M, Zhou et al. 2021, arXiv
    2102.04010). Sizes are weighted with the lengths of inputs where those are known. Takes weights that `fits_pattern`.
    """
    chosen = []
    for weight in weights:
        scores = _scores(weight, lengths)
        grouped = scores.reshape(len(scores), -1, group, *scores.shape[2:])  # [O, I / M, M, ...]
        chosen.append(weight.as_stored((ranks(grouped, 2) < dropped).reshape(scores.shape)))
    return tuple(chosen)


def fits_pattern(weight: Weight, group: int) -> bool:
    """Whether the inputs of one output are a multiple of `group`."""
    return inputs_of(weight) % group == 0


def inputs_of(weight: Weight) -> int:
    """I, the inputs of one output."""
    return int(weight.by_output(weight.parameter.detach()).shape[1])


def _sizes(weight: Weight) -> Tensor:
    values = weight.parameter.detach().abs()
    return values.to(torch.promote_types(values.dtype, torch.float32))


def _scores(weight: Weight, lengths: Lengths) -> Tensor:
    """[O, I, ...], not negative but where a weight is zero already, which shall go before one whose input is zero."""
    sizes = weight.by_output(_sizes(weight))
    length = lengths.get(weight.name)
    scores = sizes if length is None else sizes * length.view(*length.shape, *(1,) * (sizes.ndim - 2))
    return scores.masked_fill(sizes == 0, -1.0)


def _leaving_some(weights: Sequence[Weight], chosen: Choice, share: float) -> Choice:
    kept = torch.stack(
        [((weight.parameter.detach() != 0) & ~goes).any() for weight, goes in zip(weights, chosen, strict=True)]
    )
    emptied = [
        weight.name
        for weight, is_left in zip(weights, kept.tolist(), strict=True)
        if not is_left and bool(weight.parameter.detach().any())
    ]
    if emptied:
        raise StepFailed(
            f"zeros in {share:.1%} of the weights would leave none in {listed(emptied)}",
            next="lower `ratio`, name the layer under `protect`, or compare within layers (`scope: layer`)",
        )
    return chosen
