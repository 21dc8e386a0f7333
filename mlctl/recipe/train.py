"""What a recipe can say about training."""

from typing import Literal

from pydantic import Field

from mlctl.recipe.base import Count, NotNegative, Positive, Settings
from mlctl.recipe.networks import CnnSettings, NetworkSettings
from mlctl.recipe.optimization import AdamWSettings, ConstantSchedule, OptimizerSettings, ScheduleSettings


class EarlyStopping(Settings):
    """Stop when the validation split has not got better for a while."""

    metric: str = "loss"
    """`loss`, or another figure that the task watches, on the validation split."""

    patience: Count = 5
    """Epochs without an improvement before training stops."""

    min_delta: NotNegative = 0.0
    """How much better counts as an improvement, in the metric's own unit."""


class FitSettings(Settings):
    """One run of the training loop; finetuning and distillation nest it."""

    epochs: Count = 10
    """Passes over the train split, at most."""

    batch_size: Count = 128
    """Samples of one step; the last batch of an epoch holds what is left."""

    optimizer: OptimizerSettings = AdamWSettings()
    """How gradients become steps."""

    schedule: ScheduleSettings = ConstantSchedule()
    """How the learning rate moves over the steps."""

    early_stopping: EarlyStopping | None = None
    """Stop before the last epoch when nothing gets better any more."""

    keep_best: str | None = "loss"
    """The metric by which the best epoch's weights are kept; null keeps the last epoch's."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of forward and backward; `auto` takes bfloat16 where this kind of machine computes it fast."""

    checkpoint_seconds: Positive = Field(default=30.0, json_schema_extra={"changes_bytes": False})
    """Longest time between two checkpoints; it never changes the result."""


class TrainSettings(FitSettings):
    """A network learns from the train split."""

    data: str | None = None
    """The prepare step to learn from; the nearest one above, unless this names another."""

    model: NetworkSettings = CnnSettings()
    """The network."""


class FinetuneSettings(FitSettings):
    """A short training after a change to the network."""

    epochs: Count = 5
    """Passes over the train split, at most."""
