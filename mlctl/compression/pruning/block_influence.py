"""Which blocks change least what passes through them."""

# B batch, T tokens, D width of a token's vector

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from contextlib import ExitStack
from math import ceil, floor
from typing import Any

import torch
from torch import Tensor, nn

from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.training.batches import Batch
from mlctl.training.evaluation_mode import evaluation_mode

ROUNDING = 1e-9
"""What a product of shares may be off by: 0.1 of 30 is not 3 in float64."""


class _Influence:
    """The sum over vectors of 1 - cosine of what goes into a block and what comes out, and their number."""

    def __init__(self) -> None:
        self._before: list[Tensor] = []
        self._sum: Tensor | None = None
        self._count = 0

    def enter(self, part: nn.Module, inputs: tuple[Any, ...]) -> None:
        # A copy: a block may write its answer over its input.
        self._before.append(inputs[0].detach().clone())

    def leave(self, part: nn.Module, inputs: tuple[Any, ...], outputs: Any) -> None:
        first = outputs[0] if isinstance(outputs, tuple) else outputs
        turned = 1 - _cosines(_vectors(self._before.pop()), _vectors(first.detach()))
        self._sum = turned.sum() if self._sum is None else self._sum + turned.sum()
        self._count += len(turned)

    @property
    def mean(self) -> float:
        """Over all vectors; 0 where the block was never called."""
        return 0.0 if self._sum is None else float(self._sum) / self._count


def block_influences(model: CompleteModel, blocks: Iterable[str], batches: Iterable[Batch]) -> dict[str, float]:
    """The mean of 1 - cosine(input, output) of each of the modules `blocks` of `model.network`, from 0 to 2.

    Men et al. 2024: over all tokens [B, T, D], each a vector; any other shape is one vector for each
    sample. The model's mode and weights stay, and memory is that of one batch.
    """
    found = {name: _Influence() for name in blocks}
    with ExitStack() as hooks, evaluation_mode(model), torch.no_grad():
        for name, each in found.items():
            part = model.network.get_submodule(name)
            hooks.callback(part.register_forward_pre_hook(each.enter).remove)
            hooks.callback(part.register_forward_hook(each.leave).remove)
        for batch in batches:
            model.raw_outputs(*batch.inputs)
    return {name: each.mean for name, each in found.items()}


def removable_blocks(influences: Mapping[str, float], share: float, protected: Collection[str] = ()) -> tuple[str, ...]:
    """The `share` of the blocks, rounded down, that change least, in the order of `influences`; equals the last first.

    Of every list of blocks one at least stays, and so does a block with a `protected` layer. Raises StepFailed where
    there is no block, where the share is less than one block, and where it is more than may go; it says what may.
    """
    count = floor(share * len(influences) * (1 + ROUNDING))
    order = _order(influences, protected)
    if not order:
        raise StepFailed(
            "the network has no block that can be taken out whole: of one shape before and after, in a list of several",
            next="take `layers` out of the recipe, protect less, or choose another network",
        )
    if not 1 <= count <= len(order):
        least = ceil(1000 / len(influences)) / 1000
        most = floor(1000 * len(order) / len(influences) + ROUNDING) / 1000
        raise StepFailed(
            f"{share:g} of {len(influences)} blocks are {count}, and from 1 to {len(order)} can be taken out",
            next=f"set `layers` from {least:g} to {most:g}",
        )
    gone = set(order[:count])
    return tuple(name for name in influences if name in gone)


def _order(influences: Mapping[str, float], protected: Collection[str]) -> list[str]:
    """The blocks that may go, the first to go first."""
    lists = Counter(map(_list_of, influences))
    free = [name for name in influences if not any(_is_within(layer, name) for layer in protected)]
    stay = lists - Counter(map(_list_of, free))
    may_go = {each: count - max(stay[each], 1) for each, count in lists.items()}
    order = []
    for name in sorted(reversed(free), key=influences.__getitem__):
        if may_go[_list_of(name)]:
            may_go[_list_of(name)] -= 1
            order.append(name)
    return order


def _list_of(block: str) -> str:
    return block.rpartition(".")[0]


def _is_within(layer: str, block: str) -> bool:
    return layer == block or layer.startswith(f"{block}.")


def _vectors(values: Tensor) -> Tensor:
    """[B, T, D] → [B T, D], and [B, ...] → [B, all], float64: what changes little is near where float32 ends."""
    return (values.flatten(0, 1) if values.ndim == 3 else values.reshape(len(values), -1)).double()


def _cosines(before: Tensor, after: Tensor) -> Tensor:
    """Of each pair of vectors; 1 for two zeros, which are alike, and 0 for one."""
    lengths = before.norm(dim=1) * after.norm(dim=1)
    products = (before * after).sum(1)
    both_zero = (before == 0).all(1) & (after == 0).all(1)
    return torch.where(lengths > 0, products / lengths.clamp_min(torch.finfo(torch.float64).tiny), both_zero.double())
