"""Causal attention with rotary positions."""

# B batch, T tokens, P tokens before them, S = P + T, D width, H heads, W = D / H width of a head

import torch
from torch import Tensor, nn
from torch.nn import functional

SHORT = 512
"""Tokens up to which the scores of all pairs, kept for the backward pass, are worth their memory."""

_BASE = 10_000.0


class RotaryTable(nn.Module):
    """Cosines and sines of rotary positions (Su et al. 2021, section 3.4): angle t / 10000^(2i / W) for position t.

    They are computed for the positions at hand, so that a network knows no longest text; over all heads and layers
    that is too little work to be seen.
    """

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        halves = torch.arange(0, width, 2, dtype=torch.float64) / width
        self.register_buffer("frequencies", (_BASE**-halves).to(torch.float32), persistent=False)

    def forward(self, start: int, tokens: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Positions from `start` on: [T, W] twice, cosines and signed sines, as `rotated` takes them."""
        positions = start + torch.arange(tokens, device=self.frequencies.device, dtype=torch.float32)
        angles = positions[:, None] * self.frequencies
        cosines, sines = angles.cos().to(dtype), angles.sin().to(dtype)
        return torch.cat((cosines, cosines), -1), torch.cat((-sines, sines), -1)


def rotated(vectors: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Vectors [..., T, W], each pair (i, i + W / 2) of numbers turned by its position's angle, contiguous."""
    cosines, sines = table
    swapped = vectors.roll(vectors.shape[-1] // 2, -1)
    return torch.addcmul(swapped * sines, vectors, cosines)


def causal_mask(start: int, tokens: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to scores [T, S] of tokens from position `start` on: minus infinity for what comes later."""
    places = torch.arange(start + tokens, device=device)
    is_later = places[None, :] > places[start:, None]
    return torch.zeros((), dtype=dtype, device=device).masked_fill(is_later, float("-inf"))


def writes_scores(hidden: Tensor, tokens: int) -> bool:
    """Whether attention over whole texts computes all scores as one array, rather than in torch's fused kernel.

    A graph for ONNX must. In bfloat16 on a processor it is faster, by 19 to 25 % at 256 tokens with AMX and torch 2.13;
    the fused kernel is faster in float32, and alone has room for long texts.
    """
    if torch.compiler.is_exporting():
        return True
    return hidden.device.type == "cpu" and tokens <= SHORT and computing_dtype(hidden) == torch.bfloat16


def computing_dtype(hidden: Tensor) -> torch.dtype:
    """The dtype that a linear layer gives for this input."""
    kind = hidden.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype


def attend(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Means of `values` [B, H, S, W] by the likeness of `queries` [B, H, T, W] to `keys`: [B, H, T, W].

    Without a `mask` [T, S], T is S, and every token sees itself and those before it.
    """
    if mask is None:
        return functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
    scores = (queries * queries.shape[-1] ** -0.5) @ keys.transpose(-2, -1)
    scores += mask
    mixed: Tensor = scores.softmax(-1) @ values
    return mixed


class Attention(nn.Module):
    """Self-attention with one product for queries, keys and values: [B, T, D] → [B, T, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)

    def forward(
        self, hidden: Tensor, table: tuple[Tensor, Tensor], mask: Tensor | None, past: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """What every token takes from itself and those before it.

        Keys and values of tokens before these are `past` [2, B, H, P, W], and a `mask` [T, S] is due then; the second
        answer is those of all tokens, [2, B, H, S, W]. None for None.
        """
        queries, keys, values = self._parts(hidden, table)
        if past is None:
            return self._merged(attend(queries, keys, values, mask)), None
        present = torch.cat((past, torch.stack((keys, values))), -2)
        return self._merged(attend(queries, present[0], present[1], mask)), present

    def _parts(self, hidden: Tensor, table: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, [B, H, T, W] each."""
        # [B, T, 3 D] → [3, B, H, T, W], a view; turning it writes it in the order that products want.
        parts = self.inputs(hidden).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys = rotated(parts[:2], table)
        return queries, keys, parts[2]

    def _merged(self, mixed: Tensor) -> Tensor:
        answer: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return answer
