"""Optimizers as thin classes over torch's fused kernels.

The first use of any class of `torch.optim` imports `torch._dynamo`, which takes longer than many a training; the
kernels themselves need no more than lists of tensors.
"""

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from mlctl.recipe.optimization import (
    AdagradSettings,
    AdamSettings,
    AdamWSettings,
    MuonSettings,
    OptimizerSettings,
    RmspropSettings,
    SgdSettings,
)
from mlctl.training.muon import MatrixSteps, hidden_matrices
from mlctl.training.parameter_groups import Grouped, Parameters, descend, trainable


class Optimizer(Protocol):
    """Turns the gradients that lie at the parameters into a step."""

    def step(self, learning_rate: float | Tensor) -> None:
        """Move the parameters and forget their gradients. A parameter without a gradient stays where it is.

        Nothing waits for the device. A CUDA graph needs the rate as a float32 scalar on the device, for it to change.
        """
        ...

    def state(self) -> dict[str, Tensor]:
        """The optimizer's own tensors by name, not copied: all that the next step depends on."""
        ...

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the values of what `state` gave. Raises KeyError where a tensor is missing."""
        ...


class Sgd(Grouped):
    """Gradient steps with momentum, plain or Nesterov's, as in `torch.optim.SGD` (Sutskever et al. 2013, section 2)."""

    def __init__(self, settings: SgdSettings, parameters: Parameters, l1: float) -> None:
        super().__init__(parameters, settings.weight_decay, l1, ("momentum",) if settings.momentum else ())
        self.settings = settings

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
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


class Adam(Grouped):
    """Adam (Kingma & Ba 2015, algorithm 1) and AdamW (Loshchilov & Hutter 2019, algorithm 2), as in `torch.optim`."""

    def __init__(self, settings: AdamSettings | AdamWSettings, parameters: Parameters, l1: float) -> None:
        super().__init__(parameters, settings.weight_decay, l1, ("first", "second"))
        self.settings = settings
        self.kernel: Callable[..., Any] = (
            torch._fused_adamw_ if isinstance(settings, AdamWSettings) else torch._fused_adam_
        )
        self.count = torch.zeros((), device=self.device)

    def state(self) -> dict[str, Tensor]:
        return super().state() | {"count": self.count}

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
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


class Adagrad(Grouped):
    """Adagrad with a diagonal (Duchi et al. 2011, section 1), as in `torch.optim.Adagrad`."""

    def __init__(self, settings: AdagradSettings, parameters: Parameters, l1: float) -> None:
        super().__init__(parameters, settings.weight_decay, l1, ("squares",))
        self.settings = settings
        self.count = torch.ones(())  # what the fused kernel wants beside a decay of the rate, which is not used

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        for group in self.groups:
            parameters, gradients, (squares,) = group.with_gradients()
            if not parameters:
                continue
            if self.device.type == "cpu":
                torch._fused_adagrad_(
                    parameters,
                    gradients,
                    squares,
                    [self.count] * len(parameters),
                    lr=float(learning_rate),
                    lr_decay=0.0,
                    weight_decay=group.weight_decay,
                    eps=self.settings.eps,
                    maximize=False,
                )
                continue
            _add_decay(gradients, parameters, group.weight_decay)
            torch._foreach_addcmul_(squares, gradients, gradients)
            roots = torch._foreach_sqrt(squares)
            torch._foreach_add_(roots, self.settings.eps)
            descend(parameters, list(torch._foreach_div(gradients, roots)), learning_rate)


class Rmsprop(Grouped):
    """RMSprop (Tieleman & Hinton 2012; centered: Graves 2013, eq. 38 to 41), as in `torch.optim.RMSprop`."""

    def __init__(self, settings: RmspropSettings, parameters: Parameters, l1: float) -> None:
        kinds = ("squares", *("means",) * settings.centered, *("momentum",) * bool(settings.momentum))
        super().__init__(parameters, settings.weight_decay, l1, kinds)
        self.settings = settings

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        for group in self.groups:
            parameters, gradients, (squares, *others) = group.with_gradients()
            if not parameters:
                continue
            _add_decay(gradients, parameters, group.weight_decay)
            torch._foreach_mul_(squares, self.settings.decay)
            torch._foreach_addcmul_(squares, gradients, gradients, value=1 - self.settings.decay)
            directions = list(torch._foreach_div(gradients, self._roots(gradients, squares, others)))
            if self.settings.momentum:
                torch._foreach_mul_(others[-1], self.settings.momentum)
                torch._foreach_add_(others[-1], directions)
                directions = others[-1]
            descend(parameters, directions, learning_rate)

    def _roots(self, gradients: list[Tensor], squares: list[Tensor], others: list[list[Tensor]]) -> list[Tensor]:
        variances = squares
        if self.settings.centered:
            torch._foreach_lerp_(others[0], gradients, 1 - self.settings.decay)
            variances = list(torch._foreach_addcmul(squares, others[0], others[0], value=-1))
            # Of a gradient that never changes the variance is 0, which rounding can make negative.
            torch._foreach_clamp_min_(variances, 0.0)
        roots = list(torch._foreach_sqrt(variances))
        torch._foreach_add_(roots, self.settings.eps)
        return roots


class Muon:
    """Muon for the hidden matrices and kernels, AdamW for all other parameters, at rates that move alike."""

    def __init__(self, settings: MuonSettings, network: nn.Module, l1: float) -> None:
        matrices = hidden_matrices(network)
        self.matrices = MatrixSteps(settings, matrices, l1)
        self.rest = Adam(settings.adamw, {n: p for n, p in trainable(network).items() if n not in matrices}, l1)
        self.ratio = settings.adamw.lr / settings.lr

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        self.matrices.step(learning_rate)
        self.rest.step(learning_rate * self.ratio)

    def state(self) -> dict[str, Tensor]:
        return self.matrices.group.state | self.rest.state()

    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self.state().items():
            tensor.copy_(state[name])


def make_optimizer(settings: OptimizerSettings, network: nn.Module, *, l1: float = 0.0) -> Optimizer:
    """The optimizer of `network`'s trainable parameters.

    Weight decay and the pull by `l1` leave out parameters with one axis or none; the pull is no part of what
    `clip_gradients` has shortened.
    """
    if isinstance(settings, MuonSettings):
        return Muon(settings, network, l1)
    if isinstance(settings, SgdSettings):
        return Sgd(settings, trainable(network), l1)
    if isinstance(settings, AdagradSettings):
        return Adagrad(settings, trainable(network), l1)
    if isinstance(settings, RmspropSettings):
        return Rmsprop(settings, trainable(network), l1)
    return Adam(settings, trainable(network), l1)


def _add_decay(gradients: list[Tensor], parameters: list[Tensor], weight_decay: float) -> None:
    if weight_decay:
        torch._foreach_add_(gradients, parameters, alpha=weight_decay)
