"""A decoder over tokens."""

# B batch, T tokens, P tokens before them, D width, V vocabulary

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.attention import Attention, RotaryTable, causal_mask, computing_dtype, writes_scores
from mlctl.models.shapes import require_tokens
from mlctl.recipe.networks import TransformerSettings

_DEVIATION = 0.02
"""Of fresh weights, as GPT-2's (Radford et al. 2019)."""


class Block(nn.Module):
    """Attention and two dense layers, each behind a layer normalization and beside a shortcut: [B, T, D] → [B, T, D].

    No layer has a bias (Chowdhery et al. 2022: nothing is lost). Layer normalization, not that by the root of the
    mean square alone: it is one operator in every operator set of ONNX from 17 on, with a fused kernel in ONNX Runtime
    and in torch on processors; the other is one from 23 on.
    """

    def __init__(self, settings: TransformerSettings) -> None:
        super().__init__()
        width = settings.width
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, settings.heads)
        self.dense_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, settings.expansion * width, bias=False)
        self.down = nn.Linear(settings.expansion * width, width, bias=False)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(
        self, hidden: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Takes and gives what `Attention` does."""
        mixed, present = self.attention(self.attention_norm(hidden), table, mask, past)
        hidden = hidden + self.dropout(mixed)
        dense = self.down(functional.gelu(self.up(self.dense_norm(hidden))))
        return hidden + self.dropout(dense), present


class Transformer(nn.Module):
    """Tokens int64 [B, T] → logits [B, T, V] for the token after each.

    The state of `advance` is keys and values of all heads, layer after layer, [2, B, all layers' heads, P, width of a
    head].
    """

    def __init__(self, settings: TransformerSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        """Raises StepFailed where the input is not one row of tokens."""
        super().__init__()
        require_tokens(settings.arch, input_shapes)
        self.embedding = nn.Embedding(outputs, settings.width)
        self.table = RotaryTable(settings.width // settings.heads)
        blocks = [Block(settings) for _ in range(settings.layers)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = nn.LayerNorm(settings.width, bias=False)
        self.head = None if settings.tied else nn.Linear(settings.width, outputs, bias=False)
        self.apply(_initialise)
        with torch.no_grad():
            # Every block adds twice to what the last layer sees: its scale shall not grow with the depth.
            for block in blocks:
                for layer in (block.attention.output, block.down):
                    layer.weight.mul_((2 * settings.layers) ** -0.5)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.embedding(tokens)
        count, dtype = tokens.shape[1], computing_dtype(hidden)
        table = self.table(0, count, dtype)
        mask = causal_mask(0, count, dtype, hidden.device) if writes_scores(hidden, count) else None
        for block in self.blocks:
            hidden, _ = block(hidden, table, mask)
        return self._logits(hidden)

    def empty_state(self, batch: int) -> Tensor:
        """Keys and values of no tokens."""
        # Cosines and sines turn pairs of numbers.
        width = 2 * len(self.table.frequencies)
        return self.embedding.weight.new_zeros(2, batch, sum(self._heads()), 0, width)

    def advance(self, tokens: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, T, V] for tokens [B, T] that follow those of `state`, and keys and values of all of them."""
        hidden = self.embedding(tokens)
        start, count, dtype = state.shape[-2], tokens.shape[1], computing_dtype(hidden)
        table = self.table(start, count, dtype)
        mask = causal_mask(start, count, dtype, hidden.device)
        states = []
        for block, past in zip(self.blocks, torch.split(state, self._heads(), 2), strict=True):
            hidden, present = block(hidden, table, mask, past)
            states.append(present)
        return self._logits(hidden), torch.cat(states, 2)

    def _heads(self) -> list[int]:
        """How many heads each layer has; pruning can leave them different numbers."""
        return [each.heads for each in self.blocks.modules() if isinstance(each, Attention)]

    def _logits(self, hidden: Tensor) -> Tensor:
        weight = self.embedding.weight if self.head is None else self.head.weight
        return functional.linear(self.norm(hidden), weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_DEVIATION)
