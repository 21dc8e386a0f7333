"""Optimizers as thin classes over torch's fused kernels.

The first use of any class of `torch.optim` imports `torch._dynamo`, which takes longer than many a training; the
kernels themselves need no more than lists of tensors.
"""

from collections.abc import Iterable
from typing import Protocol

import torch
from torch import Tensor, nn

from mlctl.recipe.optimization import AdamSettings, AdamWSettings, OptimizerSettings, SgdSettings


class Optimizer(Protocol):
    """Turns the gradients that lie at the parameters into a step."""

    def step(self, learning_rate: float) -> None:
        """Move the parameters and forget their gradients. A parameter without a gradient stays where it is."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The optimizer's own tensors by name, not copied: all that the next step depends on."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the values of what `state` gave. Raises KeyError where a tensor is missing."""
        ...


class Group:
    """Parameters that share a weight decay, each with as many running tensors as the optimizer keeps."""

    def __init__(self, parameters: dict[str, nn.Parameter], weight_decay: float, moments: Iterable[str]) -> None:
        self.parameters = parameters
        self.weight_decay = weight_decay
        self.moments = {kind: {n: torch.zeros_like(p) for n, p in parameters.items()} for kind in moments}

    def with_gradients(self) -> tuple[list[Tensor], list[Tensor], list[list[Tensor]]]:
        """Parameters, gradients, and each kind of moment, of what has a gradient; the gradients are taken away."""
        names = [name for name, parameter in self.parameters.items() if parameter.grad is not None]
        parameters = [self.parameters[name] for name in names]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            parameter.grad = None
        return list(parameters), gradients, [[kind[name] for name in names] for kind in self.moments.values()]


class _Grouped:
    """What every optimizer has: two groups, and state that is data."""

    def __init__(self, network: nn.Module, weight_decay: float, moments: tuple[str, ...]) -> None:
        trainable = {name: each for name, each in network.named_parameters() if each.requires_grad}
        matrices = {name: each for name, each in trainable.items() if each.ndim > 1}
        vectors = {name: each for name, each in trainable.items() if each.ndim <= 1}
        self.groups = (Group(matrices, weight_decay, moments), Group(vectors, 0.0, moments))

    def state(self) -> dict[str, Tensor]:
        return {
            f"{kind}.{name}": tensor
            for group in self.groups
            for kind, tensors in group.moments.items()
            for name, tensor in tensors.items()
        }

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


class Sgd(_Grouped):
    """Gradient steps with momentum, plain or Nesterov's, as in `torch.optim.SGD` (Sutskever et al. 2013, section 2)."""

    def __init__(self, settings: SgdSettings, network: nn.Module) -> None:
        super().__init__(network, settings.weight_decay, ("momentum",) if settings.momentum else ())
        self.settings = settings

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        for group in self.groups:
            parameters, gradients, moments = group.with_gradients()
            if not parameters:
                continue
            torch._fused_sgd_(
                parameters,
                gradients,
                moments[0] if moments else [],
                weight_decay=group.weight_decay,
                momentum=self.settings.momentum,
                lr=learning_rate,
                dampening=0.0,
                nesterov=self.settings.nesterov,
                maximize=False,
                is_first_step=False,  # momentum starts at 0, so the first step is like any other
            )


class Adam(_Grouped):
    """Adam (Kingma & Ba 2015, algorithm 1) and AdamW (Loshchilov & Hutter 2019, algorithm 2), as in `torch.optim`."""

    def __init__(self, settings: AdamSettings | AdamWSettings, network: nn.Module) -> None:
        super().__init__(network, settings.weight_decay, ("first", "second"))
        self.settings = settings
        self.kernel = torch._fused_adamw_ if isinstance(settings, AdamWSettings) else torch._fused_adam_
        device = next(network.parameters()).device
        self.count = torch.zeros((), device=device)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"count": self.count}

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        self.count += 1
        for group in self.groups:
            parameters, gradients, (first, second) = group.with_gradients()
            if not parameters:
                continue
            self.kernel(
                parameters,
                gradients,
                first,
                second,
                [],
                [self.count] * len(parameters),
                lr=learning_rate,
                beta1=self.settings.betas[0],
                beta2=self.settings.betas[1],
                weight_decay=group.weight_decay,
                eps=self.settings.eps,
                amsgrad=False,
                maximize=False,
            )


def make_optimizer(settings: OptimizerSettings, network: nn.Module) -> Optimizer:
    """The optimizer of `network`'s trainable parameters; weight decay leaves out those with one axis or none."""
    if isinstance(settings, SgdSettings):
        return Sgd(settings, network)
    return Adam(settings, network)
