"""A network as it answers, for a look at what goes on inside."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from mlctl.training.failures import named_failures


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Within it, `network` evaluates, with every layer called as a module; afterwards each has the mode it had.

    A lack of memory raises OutOfMemory.
    """
    was_training = [(part, part.training) for part in network.modules()]
    was_fused = torch.backends.mha.get_fastpath_enabled()
    device = next((each.device for each in network.parameters()), torch.device("cpu"))
    try:
        network.eval()
        # torch's fused encoder layer calls none of the layers inside it, and has no backward.
        torch.backends.mha.set_fastpath_enabled(False)
        with named_failures(device):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(was_fused)
        for part, training in was_training:
            part.training = training
