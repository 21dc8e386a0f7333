"""Recurrent networks over tokens."""

# B batch, T tokens, E width of an embedding, H width of a state, V vocabulary

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.shapes import require_tokens
from mlctl.recipe.networks import GruSettings, LstmSettings, RecurrentSettings

_RANGE = 0.1
"""Fresh embeddings lie between minus and plus this (Zaremba et al. 2014): large ones would saturate the gates."""


class _Recurrent(nn.Module):
    """An embedding, recurrent layers and one linear layer: tokens int64 [B, T] → logits [B, T, V]."""

    def __init__(self, settings: RecurrentSettings, kind: type[nn.LSTM] | type[nn.GRU], outputs: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(outputs, settings.embedding)
        nn.init.uniform_(self.embedding.weight, -_RANGE, _RANGE)
        between = settings.dropout if settings.layers > 1 else 0.0
        self.body = kind(settings.embedding, settings.hidden, settings.layers, dropout=between)
        self.dropout = nn.Dropout(settings.dropout)
        self.head = None if settings.tied else nn.Linear(settings.hidden, outputs, bias=False)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, tokens: Tensor) -> Tensor:
        return self._read(tokens, None)[0]

    def _read(self, tokens: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Logits [B, T, V], and torch's own form of the state after the tokens."""
        # Time first, as the kernels want it: to turn tokens costs less than to turn their embeddings.
        embedded = self.embedding(tokens.t())
        with _float32_on_processors(embedded):
            outputs, after = self.body(embedded, state)
        weight = self.embedding.weight if self.head is None else self.head.weight
        return functional.linear(self.dropout(outputs.transpose(0, 1)), weight, self.bias), after

    def _zeros(self, parts: int, batch: int) -> Tensor:
        return self.bias.new_zeros(parts, self.body.num_layers, batch, self.body.hidden_size)


class Lstm(_Recurrent):
    """Long short-term memory; the state of `advance` is hidden states and cells, [2, layers, B, H]."""

    def __init__(self, settings: LstmSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        """Raises StepFailed where the input is not one row of tokens."""
        require_tokens(settings.arch, input_shapes)
        super().__init__(settings, nn.LSTM, outputs)
        with torch.no_grad():
            for layer in range(settings.layers):
                # Forget gates begin open (Gers et al. 2000), so that what is remembered can be learnt at all.
                getattr(self.body, f"bias_ih_l{layer}")[settings.hidden : 2 * settings.hidden] = 1.0

    def empty_state(self, batch: int) -> Tensor:
        """Zeros."""
        return self._zeros(2, batch)

    def advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `Stateful.advance`."""
        logits, after = self._read(tokens, (state[0], state[1]))
        return logits, torch.stack(after)


class Gru(_Recurrent):
    """Gated recurrent units; the state of `advance` is hidden states, [1, layers, B, H]."""

    def __init__(self, settings: GruSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        """Raises StepFailed where the input is not one row of tokens."""
        require_tokens(settings.arch, input_shapes)
        super().__init__(settings, nn.GRU, outputs)

    def empty_state(self, batch: int) -> Tensor:
        """Zeros."""
        return self._zeros(1, batch)

    def advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """As `Stateful.advance`."""
        logits, after = self._read(tokens, state[0])
        return logits, after[None]


def _float32_on_processors(embedded: Tensor) -> AbstractContextManager[None]:
    """Recurrent layers lose by bfloat16 on a processor: torch's kernels there are no faster, and the casts cost.

    2 LSTM layers of 256, 128 tokens, batch 32, one thread with AVX512-BF16, torch 2.13: x 0.64 of float32's speed.
    """
    if embedded.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        return torch.autocast("cpu", enabled=False)
    return nullcontext()
