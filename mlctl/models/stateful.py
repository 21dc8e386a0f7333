"""Networks that read a text token by token: what they know of the tokens before is one tensor."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn


@runtime_checkable
class Stateful(Protocol):
    """A network over tokens that can go on from where it stopped.

    Reading a text in parts gives the logits of reading it whole. A state that is empty at the start, of size 0 along
    one dimension, grows there by one for every token; others keep their size.
    """

    def empty_state(self, batch: int) -> Tensor:
        """What is known before the first token, for `batch` texts; of the dtype and device of the weights."""
        ...

    def advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] for tokens int64 [B, T] after what `state` knows, and the state after them."""
        ...


@dataclass(frozen=True)
class StateForm:
    """The state of one text before its first token: its shape, the axis of the batch, and that which grows, if any."""

    shape: tuple[int, ...]
    batch_axis: int
    growing_axis: int | None

    def example(self, batch: int, past: int) -> Tensor:
        """Zeros float32 in the shape of the state of `batch` texts after `past` tokens."""
        sizes = list(self.shape)
        sizes[self.batch_axis] = batch
        if self.growing_axis is not None:
            sizes[self.growing_axis] = past
        return torch.zeros(sizes)


def state_form(network: Stateful) -> StateForm:
    """What the states of `network` look like."""
    one, two = tuple(network.empty_state(1).shape), tuple(network.empty_state(2).shape)
    batch = next(axis for axis, sizes in enumerate(zip(one, two, strict=True)) if len(set(sizes)) == 2)
    return StateForm(one, batch, one.index(0) if 0 in one else None)


class Stepping(nn.Module):
    """A stateful network as a module whose call is one step, for what takes modules alone."""

    def __init__(self, network: nn.Module) -> None:
        """Raises ValueError for a network that is not stateful."""
        super().__init__()
        if not isinstance(network, Stateful):
            raise ValueError(f"{type(network).__name__} is not stateful")
        self.network = network

    def forward(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `Stateful.advance`."""
        assert isinstance(self.network, Stateful)
        return self.network.advance(tokens, state)
