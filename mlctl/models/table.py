"""The one table of networks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import nn

from mlctl.errors import StepFailed
from mlctl.models.cnn import Cnn
from mlctl.models.custom import imported_network
from mlctl.models.linear import Linear
from mlctl.models.mlp import Mlp
from mlctl.models.recurrent import Gru, Lstm
from mlctl.models.resnet import ResNet
from mlctl.models.transformer import Transformer
from mlctl.models.vit import Vit
from mlctl.recipe.networks import CustomSettings, NetworkSettings

NETWORKS: dict[str, Callable[[Any, tuple[tuple[int, ...], ...], int], nn.Module]] = {
    "linear": Linear,
    "mlp": Mlp,
    "cnn": Cnn,
    "resnet": ResNet,
    "vit": Vit,
    "lstm": Lstm,
    "gru": Gru,
    "transformer": Transformer,
}


def build(
    settings: NetworkSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int, code: Path | None = None
) -> nn.Module:
    """A freshly initialised network: float32 inputs [B, *shape] → raw outputs [B, outputs]; over tokens, int64 inputs
    [B, T] → [B, T, outputs].

    Weights come from torch's global generator: after `torch.manual_seed(seed)` they are the same every time.
    `code` is the folder that a user's own network may be imported from; None where no code may run. Raises StepFailed
    where the network cannot take inputs of these shapes (batch dimension left out), and UsageError for code that is
    not allowed.
    """
    if isinstance(settings, CustomSettings):
        made = imported_network(settings.arch, code)(input_shapes, outputs, **(settings.arguments or {}))
        if not isinstance(made, nn.Module):
            raise StepFailed(f"{settings.arch} makes no torch.nn.Module", next="let its class be one")
        return made
    return NETWORKS[settings.arch](settings, input_shapes, outputs)
