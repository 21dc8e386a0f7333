"""One linear layer."""

from torch import Tensor, nn

from mlctl.models.shapes import flat_width
from mlctl.recipe.networks import LinearSettings


class Linear(nn.Module):
    """All inputs to all outputs: [B, ...] float32 → [B, outputs] raw outputs.

    Raises StepFailed for shapes that do not fit.
    """

    def __init__(self, settings: LinearSettings, input_shapes: tuple[tuple[int, ...], ...], outputs: int) -> None:
        super().__init__()
        self.head = nn.Linear(flat_width(settings.arch, input_shapes), outputs, bias=settings.bias)

    def forward(self, features: Tensor) -> Tensor:
        outputs: Tensor = self.head(features.flatten(1))
        return outputs
