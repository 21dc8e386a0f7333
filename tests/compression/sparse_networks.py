"""Networks whose weights can become zero, of every kind."""

from collections.abc import Callable
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    GruSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    ResNetSettings,
    TransformerSettings,
    VitSettings,
)
from mlctl.training.batches import Samples

torch.set_num_threads(1)  # these networks are too small to be shared
TOKENS, CONTEXT, CLASSES = 11, 5, 4
IMAGE: Final = (3, 8, 8)
NETWORKS: Final[dict[str, NetworkSettings]] = {
    "mlp": MlpSettings(hidden=(12, 8)),
    "cnn": CnnSettings(channels=(4, 8)),
    "resnet": ResNetSettings(depth=8, width=4),
    "vit": VitSettings(patch=4, width=8, layers=1, heads=2, pool="token"),
    "lstm": LstmSettings(embedding=4, hidden=8, layers=2),
    "gru": GruSettings(embedding=4, hidden=8, layers=1),
    "transformer": TransformerSettings(width=8, layers=1, heads=2, tied=True),
    "transformer with a head": TransformerSettings(width=8, layers=1, heads=2, tied=False),
}
TEXTS: Final = ("lstm", "gru", "transformer", "transformer with a head")


def model_of(name: str, seed: int = 3) -> CompleteModel:
    """One of NETWORKS, freshly made; raw images are uint8."""
    torch.manual_seed(seed)
    if name in TEXTS:
        return CompleteModel(build(NETWORKS[name], ((CONTEXT,),), TOKENS), (None,), nn.Identity()).eval()
    return CompleteModel(build(NETWORKS[name], (IMAGE,), CLASSES), (InputScaling(255.0),), nn.Identity()).eval()


def rows_of(name: str, count: int, seed: int = 5) -> Samples:
    """Raw inputs for one of NETWORKS."""
    random = np.random.default_rng(seed)
    if name in TEXTS:
        inputs: npt.NDArray[np.integer] = random.integers(0, TOKENS, (count, CONTEXT)).astype(np.uint8)
    else:
        inputs = random.integers(0, 256, (count, *IMAGE)).astype(np.uint8)
    return Samples((inputs,), np.zeros(count, np.int64))


def own(make: Callable[[], nn.Module], seed: int = 3) -> CompleteModel:
    """A user's network, which takes float32 as it is."""
    torch.manual_seed(seed)
    return CompleteModel(make(), (InputScaling(),), nn.Identity()).eval()


class Kernels(nn.Module):
    """Convolutions of every kind: [B, 4, 5, 5] → [B, 6, 5, 5]."""

    def __init__(self) -> None:
        super().__init__()
        self.plain = nn.Conv2d(4, 8, 3, padding=1)
        self.grouped = nn.Conv2d(8, 12, 1, groups=2)
        self.turned = nn.ConvTranspose2d(12, 6, 3, padding=1, groups=3)

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.turned(self.grouped(self.plain(image).relu()).relu())
        return answer


class Mixture(nn.Module):
    """Layers and parameters that are weights, and some that are not: [B, 3, 8] → [B, 3, 2]."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.second = nn.Linear(8, 8)
        self.second.weight = self.first.weight  # one tensor in two layers
        self.weight_between = nn.Parameter(torch.randn(8, 8))
        self.positions = nn.Parameter(torch.randn(3, 8))
        self.weight_of_channels = nn.Parameter(torch.randn(1, 1, 8))
        self.norm = nn.LayerNorm((3, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
        self.last = nn.Linear(8, 2)

    def forward(self, rows: Tensor) -> Tensor:
        hidden = self.second(self.first(rows).relu()) @ self.weight_between.T
        hidden = self.norm(hidden * self.weight_of_channels + self.positions)
        hidden, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        answer: Tensor = self.last(input=hidden)
        return answer
