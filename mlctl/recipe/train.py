"""What a recipe can say about training."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mlctl.recipe.augmentation import AugmentSettings
from mlctl.recipe.base import Count, Flag, Fraction, NotNegative, Positive, PositiveFraction, Settings
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


class TrackSettings(Settings):
    """Who else hears of every epoch's figures."""

    tensorboard: str | None = None
    """Folder for TensorBoard's event files, beside the recipe."""

    mlflow: str | None = None
    """Address of an MLflow server, http:// or https://; `MLFLOW_TRACKING_URI` where this is null."""

    @field_validator("mlflow")
    @classmethod
    def _is_address(cls, address: str | None) -> str | None:
        if address is not None and not address.startswith(("http://", "https://")):
            raise ValueError("an MLflow server has an http:// or https:// address")
        return address


class FitSettings(Settings):
    """One run of the training loop; finetuning and distillation nest it."""

    epochs: Count = 10
    """Passes over the train split, at most."""

    batch_size: Count = 128
    """Samples of one step; the last batch of an epoch holds what is left."""

    micro_batch: Count | None = None
    """Samples computed at once; gradients of a batch's parts are added up. The whole batch, unless this is smaller, or
    the device has room for fewer: then it is halved by itself."""

    optimizer: OptimizerSettings = AdamWSettings()
    """How gradients become steps."""

    schedule: ScheduleSettings = ConstantSchedule()
    """How the learning rate moves over the steps."""

    label_smoothing: Fraction = 0.0
    """Share of every label that is spread over all classes (Szegedy et al. 2016); tasks with classes only. The loss on
    the validation split is that of unsmoothed labels."""

    class_weights: Literal["balanced"] | Annotated[tuple[Positive, ...], Field(min_length=2)] | None = None
    """What a sample's loss counts by its class: a number for every label, in their order, or `balanced`, which gives
    every class the same weight in all. Scaled to a mean of 1 over the train split; tasks with labels only."""

    l1: NotNegative = 0.0
    """Pull of matrices, kernels and embeddings towards zero by the sum of their absolute values; biases and
    normalization are left out."""

    clip_norm: Positive | None = None
    """Longest gradient over all parameters together; a longer one is shortened to it."""

    ema: PositiveFraction | None = None
    """Decay of a running mean of the weights, which is then what is validated and kept."""

    augment: AugmentSettings | None = None
    """How images are changed at random; tasks with images only."""

    early_stopping: EarlyStopping | None = None
    """Stop before the last epoch when nothing gets better any more."""

    keep_best: str | None = "loss"
    """The metric by which the best epoch's weights are kept; null keeps the last epoch's."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Arithmetic of forward and backward; `auto` takes bfloat16 where this kind of machine computes it fast."""

    compile: Flag = False
    """Let `torch.compile` build the network's kernels, small networks' on a GPU as CUDA graphs; a loss on most CPUs."""

    checkpoint_seconds: Positive = Field(default=30.0, json_schema_extra={"changes_bytes": False})
    """Longest time between two checkpoints; it never changes the result."""

    checkpoint_epochs: Count | None = Field(default=None, json_schema_extra={"changes_bytes": False})
    """Also a checkpoint after every so many epochs."""

    track: TrackSettings = Field(default=TrackSettings(), json_schema_extra={"changes_bytes": False})
    """Where the figures of every epoch go beside `metrics.jsonl`."""


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
