"""Parameters in groups that are treated alike, and the running tensors that optimizers keep beside them."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor, nn

from mlctl.training.regularization import add_l1

Parameters: TypeAlias = Mapping[str, nn.Parameter]


def trainable(network: nn.Module) -> dict[str, nn.Parameter]:
    """The network's parameters that learn, by name; one with several names has the first of them."""
    return {name: each for name, each in network.named_parameters() if each.requires_grad}


class Group:
    """Parameters that share a weight decay and a pull by L1, each with as many running tensors as `moments` names."""

    def __init__(self, parameters: Parameters, weight_decay: float, l1: float, moments: Iterable[str]) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.l1 = l1
        self.moments = {kind: {n: torch.zeros_like(p) for n, p in parameters.items()} for kind in moments}

    @property
    def state(self) -> dict[str, Tensor]:
        """The running tensors by kind and parameter, not copied."""
        return {f"{kind}.{name}": each for kind, named in self.moments.items() for name, each in named.items()}

    def with_gradients(self) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
        """Parameters, gradients with L1's in them, and each kind of moment, of what has a gradient.

        The gradients are taken away from the parameters, and belong to the caller.
        """
        names = [name for name, parameter in self.parameters.items() if parameter.grad is not None]
        parameters: list[Tensor] = [self.parameters[name] for name in names]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = None
        add_l1(gradients, parameters, self.l1)
        return parameters, gradients, [[kind[name] for name in names] for kind in self.moments.values()]


class Grouped:
    """Parameters in two groups, and state that is data.

    Weight decay and L1 act on what has two axes or more: weight matrices, kernels and embeddings. Biases and the
    parameters of normalizations have one, and are left out.
    """

    def __init__(self, parameters: Parameters, weight_decay: float, l1: float, moments: tuple[str, ...]) -> None:
        matrices = {name: each for name, each in parameters.items() if each.ndim > 1}
        vectors = {name: each for name, each in parameters.items() if each.ndim <= 1}
        self.groups = (Group(matrices, weight_decay, l1, moments), Group(vectors, 0.0, 0.0, moments))
        self.device = next((each.device for each in parameters.values()), torch.device("cpu"))

    def state(self) -> dict[str, Tensor]:
        """The optimizer's own tensors by name, not copied."""
        return {name: tensor for group in self.groups for name, tensor in group.state.items()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the values of what `state` gave. Raises KeyError where a tensor is missing."""
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def descend(parameters: list[Tensor], directions: list[Tensor], learning_rate: float | Tensor) -> None:
    """Subtract `learning_rate` × `directions`, in place."""
    if isinstance(learning_rate, Tensor):
        torch._foreach_sub_(parameters, torch._foreach_mul(directions, learning_rate))
    else:
        torch._foreach_add_(parameters, directions, alpha=-learning_rate)
