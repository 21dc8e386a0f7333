"""Networks to measure on: residual networks with random weights, and a sentence encoder with its real ones."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional


class Block(nn.Module):
    """Two 3×3 convolutions, or the bottleneck 1×1, 3×3, 1×1, beside a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        out = width * expansion
        plan = [(channels, width, 3, stride), (width, out, 3, 1)]
        if expansion > 1:
            plan = [(channels, width, 1, 1), (width, width, 3, stride), (width, out, 1, 1)]
        self.convolutions = nn.ModuleList(_convolution(*each) for each in plan)
        self.shortcut = _convolution(channels, out, 1, stride) if stride > 1 or channels != out else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        found = features
        for convolution in self.convolutions[:-1]:
            found = functional.relu(convolution(found))
        return functional.relu(self.convolutions[-1](found) + self.shortcut(features))


def _convolution(channels: int, out: int, kernel: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, out, kernel, stride, padding=kernel // 2, bias=False), nn.BatchNorm2d(out))


class ResNet(nn.Module):
    """ResNet-18 or ResNet-50 for images [B, 3, 224, 224], or with a 3×3 stem for small ones."""

    def __init__(
        self, depth: int, *, classes: int = 1000, channels: int = 3, width: int = 64, is_small: bool = False
    ) -> None:
        super().__init__()
        blocks, expansion = {18: ((2, 2, 2, 2), 1), 50: ((3, 4, 6, 3), 4)}[depth]
        stem = _convolution(channels, width, 3, 1) if is_small else _convolution(channels, width, 7, 2)
        self.stem = nn.Sequential(stem, nn.ReLU(), nn.Identity() if is_small else nn.MaxPool2d(3, 2, padding=1))
        self.blocks = nn.Sequential(*_stages(blocks, expansion, width))
        self.head = nn.Linear(8 * width * expansion, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(images)).mean(dim=(2, 3)))
        return logits


def _stages(blocks: Sequence[int], expansion: int, width: int) -> list[Block]:
    made, channels = [], width
    for number, count in enumerate(blocks):
        for position in range(count):
            stride = 2 if number and not position else 1
            made.append(Block(channels, width << number, stride, expansion))
            channels = (width << number) * expansion
    return made


class SentenceEncoder(nn.Module):
    """MiniLM: a BERT of six layers and width 384, mean pooling over the words, length one (Wang et al. 2020).

    Takes token numbers and their mask, int64 [B, T] each; gives [B, 384]. Loads the weights of the `safetensors` file
    of all-MiniLM-L6-v2.
    """

    def __init__(self, layers: int = 6, width: int = 384, heads: int = 12, vocabulary: int = 30522) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(512, width)
        self.kinds = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(EncoderLayer(width, heads) for _ in range(layers))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        places = torch.arange(input_ids.shape[1], device=input_ids.device)
        features = self.norm(self.words(input_ids) + self.positions(places) + self.kinds.weight[0])
        hidden = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        for layer in self.layers:
            features = layer(features, hidden)
        present = attention_mask.unsqueeze(-1).float()
        pooled = (features * present).sum(dim=1) / present.sum(dim=1).clamp(min=1e-9)
        return functional.normalize(pooled, dim=1)

    def load_weights(self, folder: Path) -> None:
        """Take the weights of the `model.safetensors` in `folder`."""
        from safetensors.torch import load_file

        stored = load_file(folder / "model.safetensors")
        names = {
            "words": "embeddings.word_embeddings",
            "positions": "embeddings.position_embeddings",
            "kinds": "embeddings.token_type_embeddings",
            "norm": "embeddings.LayerNorm",
        }
        parts = {
            "query": "attention.self.query",
            "key": "attention.self.key",
            "value": "attention.self.value",
            "merge": "attention.output.dense",
            "attention_norm": "attention.output.LayerNorm",
            "widen": "intermediate.dense",
            "narrow": "output.dense",
            "norm": "output.LayerNorm",
        }
        for number in range(len(self.layers)):
            names |= {f"layers.{number}.{ours}": f"encoder.layer.{number}.{theirs}" for ours, theirs in parts.items()}
        self.load_state_dict({key: stored[_theirs(key, names)] for key in self.state_dict()})


def _theirs(key: str, names: dict[str, str]) -> str:
    module, _, kind = key.rpartition(".")
    return f"{names[module]}.{kind}"


class EncoderLayer(nn.Module):
    """Attention, then a wider layer and back, each added to what came in and normalised."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.merge = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)

    def forward(self, features: Tensor, hidden: Tensor) -> Tensor:
        query, key, value = (self._heads(part(features)) for part in (self.query, self.key, self.value))
        weights = torch.softmax(query @ key.transpose(2, 3) / query.shape[-1] ** 0.5 + hidden, dim=-1)
        found = (weights @ value).transpose(1, 2).flatten(2)
        features = self.attention_norm(features + self.merge(found))
        answer: Tensor = self.norm(features + self.narrow(functional.gelu(self.widen(features))))
        return answer

    def _heads(self, features: Tensor) -> Tensor:
        batch, words, width = features.shape
        return features.view(batch, words, self.heads, width // self.heads).transpose(1, 2)
