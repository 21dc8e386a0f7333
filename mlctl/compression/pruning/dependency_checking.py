"""Cutting a network for a try, to see that its code reads sizes from tensors, and holds none of its own."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
    The network is as before afterwards.
    """
    if not names:
        return {}
    with evaluation_mode(network), torch.no_grad():
        rows = len(example[0])
        one = [(1, *shape[1:]) if shape[:1] == (rows,) else shape for shape in shapes]
        whole, first = without(names), tuple(each[:1] for each in example)
        with _lent(network):
            _take_weights(network)
            if _problem(network, first, one, whole) is None:
                return {}
        problems = {}
        for each in names:
            structure = without([each])
            with _lent(network):
                problems[each] = _problem(network, example, shapes, structure)
        return {name: problem for name, problem in problems.items() if problem is not None}


@contextmanager
def _lent(network: nn.Module) -> Iterator[None]:
    """Within it the network may be changed, save for what its tensors hold; afterwards it is as before.

    A copy would be of every weight, and take as long as all else here.
    """
    held: list[tuple[dict[str, Any] | list[Any], dict[str, Any] | list[Any]]] = []
    for module in network.modules():
        inner = [value for value in module.__dict__.values() if isinstance(value, dict | list)]
        held += [(each, each.copy()) for each in (module.__dict__, *inner)]
    try:
        yield
    finally:
        for each, before in held:
            each.clear()
            if isinstance(each, dict):
                each.update(before)
            else:
                each.extend(before)


def _take_weights(network: nn.Module) -> None:
    """Put zeros that take no memory in place of all tensors. (torch's meta device would import its compiler.)"""
    zeros: dict[int, Tensor] = {}
    for module in list(network.modules()):
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is None:
                continue
            if id(tensor) not in zeros:
                none = tensor.new_zeros(()).expand(tensor.shape)
                is_parameter = isinstance(tensor, nn.Parameter)
                zeros[id(tensor)] = nn.Parameter(none, tensor.requires_grad) if is_parameter else none
            setattr(module, name, zeros[id(tensor)])


def _problem(
    network: nn.Module,
    example: tuple[Tensor, ...],
    shapes: Sequence[tuple[int, ...]],
    structure: Structure,
) -> str | None:
    try:
        found = restructured(network, structure)(*example)
    except CODE_FAILURES as error:
        said = " ".join(str(error).split())
        return f"the network does not run without some of its units: {said[:200]}"
    if [tuple(each.shape) for each in tensors_in(found)] != list(shapes):
        return "the network answers in another shape without some of its units"
    return None
