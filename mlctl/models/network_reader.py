"""A stateful network of torch that reads a text token by token."""

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
import torch

from mlctl.models.stateful import Stateful, state_form


class NetworkReader:
    """Reads on where it stopped, with arrays for whoever knows no tensor."""

    def __init__(self, network: Stateful, capacity: int) -> None:
        """`network` is in evaluation mode; `capacity` counts where its state grows, elsewhere there is no end."""
        self._network = network
        self.capacity = None if state_form(network).growing_axis is None else capacity
        self._empty = self._state = network.empty_state(1)
        self._known = 0

    @property
    def known(self) -> int:
        """How many tokens it has read since it last forgot."""
        return self._known

    def read(self, tokens: Sequence[int]) -> npt.NDArray[Any]:
        """Read on; the logits [V] after the last of one or more `tokens`."""
        with torch.inference_mode():
            batch = torch.tensor([list(tokens)], device=self._empty.device)
            logits, self._state = self._network.advance(batch, self._state)
        self._known += len(tokens)
        return logits[0, -1].float().cpu().numpy()

    def forget(self) -> None:
        """Be as before the first token."""
        self._state, self._known = self._empty, 0
