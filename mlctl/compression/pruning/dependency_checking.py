"""Cutting a copy of a network to see that its code reads sizes from tensors, and holds none of its own."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from mlctl.compression.pruning.dependency_tracing import tensors_in
from mlctl.models.custom import CODE_FAILURES
from mlctl.models.structure import Structure, restructured
from mlctl.training.evaluation_mode import evaluation_mode


def unsteady(
    network: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Sequence[tuple[int, ...]],
    names: Sequence[str],
    without: Callable[[Sequence[str]], Structure],
) -> dict[str, str]:
    """Parts of a network that its code does not let go, and why: without them it fails, or gives another shape.

    All are left out at once, without weights and for one row; where that fails, one after the other with all that the
    network has. `without` says what is kept where some of `names` are cut, `shapes` are those of the network's answers.
    """
    if not names:
        return {}
    with evaluation_mode(network), torch.no_grad():
        rows = len(example[0])
        one = [(1, *shape[1:]) if shape[:1] == (rows,) else shape for shape in shapes]
        if _problem(lambda: _weightless(network), tuple(each[:1] for each in example), one, without(names)) is None:
            return {}
        problems = {each: _problem(lambda: copy.deepcopy(network), example, shapes, without([each])) for each in names}
        return {name: problem for name, problem in problems.items() if problem is not None}


def _weightless(network: nn.Module) -> nn.Module:
    """A copy whose weights are zeros that take no memory. (torch's meta device would import its compiler.)"""
    stand_ins: dict[int, Any] = {}
    for tensor in (*network.parameters(), *network.buffers()):
        zeros = tensor.new_zeros(()).expand(tensor.shape)
        stand_ins[id(tensor)] = nn.Parameter(zeros, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else zeros
    return copy.deepcopy(network, stand_ins)


def _problem(
    copied: Callable[[], nn.Module],
    example: tuple[Tensor, ...],
    shapes: Sequence[tuple[int, ...]],
    structure: Structure,
) -> str | None:
    try:
        found = restructured(copied(), structure)(*example)
    except CODE_FAILURES as error:
        said = " ".join(str(error).split())
        return f"the network does not run without some of its units: {said[:200]}"
    if [tuple(each.shape) for each in tensors_in(found)] != list(shapes):
        return "the network answers in another shape without some of its units"
    return None
