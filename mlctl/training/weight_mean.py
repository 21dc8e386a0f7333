"""A running mean of the weights (Polyak & Juditsky 1992, with exponential decay)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

EXCHANGED = "exchanged"


class WeightMean:
    """The exponential moving average of a network's parameters and floating-point buffers.

    The mean of n updates decays by min(`decay`, (1 + n) / (10 + n)), so that a short training does not keep its random
    beginning (the rule of TensorFlow's ExponentialMovingAverage with `num_updates`). All work is on the device.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        """Starts at the network as it is now."""
        self.decay = decay
        self.weights = dict(_floats(network))
        self.means = {name: tensor.detach().clone() for name, tensor in self.weights.items()}
        self.count = torch.zeros((), device=next(iter(self.means.values())).device)
        self.exchanged = torch.zeros((), dtype=torch.bool)

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's present weights into the mean; to be called after every step."""
        self.count += 1
        kept = ((1 + self.count) / (10 + self.count)).clamp(max=self.decay)
        means, weights = list(self.means.values()), list(self.weights.values())
        distances = torch._foreach_sub(weights, means)
        torch._foreach_mul_(distances, 1 - kept)
        torch._foreach_add_(means, distances)

    @contextmanager
    def in_network(self) -> Iterator[None]:
        """Within it the network has the mean, and the mean's place holds the trained weights."""
        self.exchange()
        try:
            yield
        finally:
            self.exchange()

    @torch.no_grad()
    def exchange(self) -> None:
        """Give the network the mean for its trained weights, or the other way round."""
        for name, mean in self.means.items():
            weight = self.weights[name]
            aside = weight.detach().clone()
            weight.copy_(mean)
            mean.copy_(aside)
        self.exchanged.logical_not_()

    def state(self) -> dict[str, Tensor]:
        """The mean's own tensors by name, not copied: all that the next update depends on."""
        return {f"mean.{name}": mean for name, mean in self.means.items()} | {
            "count": self.count,
            EXCHANGED: self.exchanged,
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the values of what `state` gave, after the network took over its own of the same moment.

        A state from within `in_network` ends as one from outside. Raises KeyError where a tensor is missing.
        """
        for name, tensor in self.state().items():
            tensor.copy_(state[name])
        if self.exchanged:
            self.exchange()


def _floats(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from network.named_parameters()
    for name, buffer in network.named_buffers():
        if buffer.is_floating_point():
            yield name, buffer
