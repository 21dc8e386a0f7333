"""Vision transformers (Dosovitskiy et al. 2021)."""

# B batch, C channels, H height, W width, T tokens, D width of a token's vector, N heads, K width of a head

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.image_room import require_room
from mlctl.models.shapes import image_shape
from mlctl.recipe.networks import VitSettings

DEVIATION = 0.02
"""Of fresh weights, cut off at two; the usual choice for transformers (Devlin et al. 2019; Touvron et al. 2021)."""

SHORT = 256
"""Tokens up to which the likeness of all pairs, kept for the backward pass, is worth its memory."""


class Attention(nn.Module):
    """Multi-head attention of all tokens to all (Vaswani et al. 2017): [B, T, D] → [B, T, D]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.read = nn.Linear(width, 3 * width)
        self.merge = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        parts: Tensor = self.read(tokens).unflatten(2, (3, self.heads, -1))  # [B, T, 3, N, K]
        query, key, value = parts.permute(2, 0, 3, 1, 4).unbind(0)
        merged: Tensor = self.merge(attend(query, key, value).transpose(1, 2).flatten(2))
        return merged


def attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """softmax(query · keyᵀ / √K) · value, [B, N, T, K] each.

    torch's fused kernel computes it, but where its parts are faster: in bfloat16 on a CPU (one core with AMX, torch
    2.13, forward and backward of 16, 64 and 196 tokens in 3 heads of 64: x 4.8, 3.4 and 1.8). A graph has the parts
    too, for every operator set alike.
    """
    is_short = query.shape[2] <= SHORT
    if torch.compiler.is_exporting() or (is_short and query.device.type == "cpu" and query.dtype == torch.bfloat16):
        likeness: Tensor = (query * query.shape[-1] ** -0.5) @ key.transpose(2, 3)
        return likeness.softmax(-1) @ value
    return functional.scaled_dot_product_attention(query, key, value)


class Block(nn.Module):
    """Attention, then two dense layers, each normalised before and added to what came in: [B, T, D] → [B, T, D]."""

    def __init__(self, settings: VitSettings) -> None:
        super().__init__()
        width = settings.width
        self.attention_norm = nn.LayerNorm(width)
        self.attention = Attention(width, settings.heads)
        self.dense_norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, settings.expansion * width)
        self.narrow = nn.Linear(settings.expansion * width, width)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.dropout(self.attention(self.attention_norm(tokens)))
        hidden = self.dropout(functional.gelu(self.widen(self.dense_norm(tokens))))
        answers: Tensor = tokens + self.dropout(self.narrow(hidden))
        return answers


class Vit(nn.Module):
    """Patches with learned positions, blocks, normalization, pooling and one linear layer.

    [B, C, H, W] float32 → [B, outputs] raw outputs. Raises StepFailed for shapes that do not fit, and for images whose
    sides are no multiples of the patch.
    """

    def __init__(self, settings: VitSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        super().__init__()
        channels, height, width = image_shape(settings.arch, input_shapes)
        require_room(settings, height, width)
        patch = settings.patch
        count = (height // patch) * (width // patch) + (settings.pool == "token")
        self.patches = nn.Conv2d(channels, settings.width, patch, stride=patch)
        self.token = nn.Parameter(torch.zeros(settings.width)) if settings.pool == "token" else None
        self.positions = nn.Parameter(torch.empty(count, settings.width))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = nn.LayerNorm(settings.width)
        self.head = nn.Linear(settings.width, outputs)
        self._start()

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.patches(image).flatten(2).transpose(1, 2)
        if self.token is not None:
            tokens = torch.cat((self.token.expand(tokens.shape[0], 1, -1), tokens), 1)
        tokens = tokens + self.positions
        for block in self.blocks:
            tokens = block(tokens)
        # The mean of normalised vectors, not the norm of their mean, so that every patch counts alike.
        tokens = self.norm(tokens)
        outputs: Tensor = self.head(tokens.mean(1) if self.token is None else tokens[:, 0])
        return outputs

    def _start(self) -> None:
        nn.init.trunc_normal_(self.positions, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
        for part in self.modules():
            if isinstance(part, nn.Linear | nn.Conv2d):
                nn.init.trunc_normal_(part.weight, std=DEVIATION, a=-2 * DEVIATION, b=2 * DEVIATION)
                assert part.bias is not None
                nn.init.zeros_(part.bias)
