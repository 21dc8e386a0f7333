"""What keeps weights small and steps short."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], longest: float) -> Tensor:
    """Shorten the gradients that lie at `parameters` to `longest` where, taken as one vector, they are longer.

    Gives their length before, a float32 scalar on their device; nothing waits for it (Pascanu et al. 2013, section
    3.2). A gradient that is not finite makes every gradient NaN, which the loss of the next step shows.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not gradients:
        return torch.zeros(())
    length: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    # Only shortens: without the tiny term a gradient of length 0 would be divided by 0.
    torch._foreach_mul_(gradients, (longest / (length + 1e-6)).clamp(max=1.0))
    return length


def add_l1(gradients: list[Tensor], parameters: list[Tensor], l1: float) -> None:
    """Add the gradient of `l1` × the sum of absolute values, which is 0 at 0 (Tibshirani 1996), in place."""
    if l1:
        torch._foreach_add_(gradients, torch._foreach_sign(parameters), alpha=l1)
