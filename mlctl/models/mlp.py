"""Fully connected layers with an activation between them."""

from itertools import pairwise

from torch import Tensor, nn

from mlctl.models.shapes import flat_width
from mlctl.recipe.networks import Activation, MlpSettings

ACTIVATIONS: dict[Activation, type[nn.Module]] = {"relu": nn.ReLU, "gelu": nn.GELU, "tanh": nn.Tanh}


class Mlp(nn.Module):
    """A multi-layer perceptron: [B, ...] float32 → [B, outputs] raw outputs.

    Raises StepFailed for shapes that do not fit.
    """

    def __init__(self, settings: MlpSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        super().__init__()
        widths = (flat_width(settings.arch, input_shapes), *settings.hidden)
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.activation = ACTIVATIONS[settings.activation]()
        self.dropout = nn.Dropout(settings.dropout)
        self.head = nn.Linear(widths[-1], outputs)

    def forward(self, features: Tensor) -> Tensor:
        hidden = features.flatten(1)
        for layer in self.hidden:
            hidden = self.dropout(self.activation(layer(hidden)))
        outputs: Tensor = self.head(hidden)
        return outputs
