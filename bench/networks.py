"""Networks to measure on: residual networks with random weights, and a sentence encoder with its real ones."""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.models.table import build
from mlctl.recipe.networks import ResNetSettings


def residual_network(
    depth: int, *, classes: int = 1000, channels: int = 3, width: int = 64, is_small: bool = False
) -> nn.Module:
    """mlctl's ResNet for images [B, C, 224, 224], or with a 3×3 stem for [B, C, 32, 32] and near it.

    The last normalization of every block starts at one and not at zero: a network that was never trained shall compute
    and round as a trained one does.
    """
    settings = ResNetSettings.model_validate(
        {"depth": depth, "stem": "cifar" if is_small else "imagenet", "width": width}
    )
    side = 32 if is_small else 224
    network = build(settings, ((channels, side, side),), classes)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.ones_(part.weight)
    return network


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
