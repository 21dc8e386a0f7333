"""What a recipe can say about learning from another model."""

from typing import Literal

from mlctl.recipe.base import Flag, Fraction, Positive
from mlctl.recipe.networks import CnnSettings, NetworkSettings
from mlctl.recipe.train import FitSettings


class DistillSettings(FitSettings):
    """A smaller network learns from a larger one's answers."""

    teacher: str
    """A step, an ONNX file beside the recipe, or the URL of a served model (Open Inference Protocol v2)."""

    data: str | None = None
    """The prepare step to learn from; the nearest one above, unless this names another."""

    model: NetworkSettings = CnnSettings()
    """The student."""

    loss: Literal["soft-targets", "features", "attention", "decoupled"] = "soft-targets"
    """What the student imitates."""

    temperature: Positive = 4.0
    """How much soft targets are softened (Hinton et al. 2015)."""

    hard: Fraction = 0.1
    """Share of the task's own loss in the sum."""

    initialize: Flag = False
    """Start layers from the teacher's where shapes allow."""
