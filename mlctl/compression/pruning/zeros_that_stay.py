"""Zeros that a network comes with, and that another training does not fill."""

from collections.abc import Iterable

import torch
from torch import nn

from mlctl.training.learner import AfterStep

MANY = 0.05
"""Share of a tensor's numbers from which its zeros are no chance: training leaves next to none."""


def zeros_that_stay(parameters: Iterable[nn.Parameter]) -> AfterStep | None:
    """An `after_step` for `fit` that keeps the zeros of every matrix and kernel that has many; None where none has.

    The zeros are those at the start of the training, with which one that is started again begins too.
    """
    held = [(each, each.detach() == 0) for each in parameters if each.ndim >= 2]
    held = [(each, zeros) for each, zeros in held if float(zeros.float().mean()) >= MANY]
    if not held:
        return None
    masks = [zeros for _, zeros in held]

    @torch.no_grad()
    def clear(done: float) -> None:
        for index, (parameter, _) in enumerate(held):
            if masks[index].device != parameter.device:
                masks[index] = masks[index].to(parameter.device)
            parameter.masked_fill_(masks[index], 0.0)

    return clear
