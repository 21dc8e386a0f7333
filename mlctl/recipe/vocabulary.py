"""The one table of stages and what each can be told; and what each task measures."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.evaluate import EvalSettings
from mlctl.recipe.export import ExportSettings
from mlctl.recipe.prepare import PrepareSettings
from mlctl.recipe.prune import PruneSettings
from mlctl.recipe.quantize import QuantizeSettings
from mlctl.recipe.serve import ServeSettings
from mlctl.recipe.train import TrainSettings

STAGE_SETTINGS: dict[str, Any] = {
    "prepare": PrepareSettings,
    "train": TrainSettings,
    "prune": PruneSettings,
    "distill": DistillSettings,
    "export": ExportSettings,
    "quantize": QuantizeSettings,
    "eval": EvalSettings,
    "serve": ServeSettings,
}
"""In the order of a model's life."""

Direction: TypeAlias = Literal["higher", "lower"]


@dataclass(frozen=True)
class TaskVocabulary:
    """What a task measures: every metric and which way is better; `main` is the one that tables show first.

    A metric's name may hold one `<k>`, which stands for a whole number from 1. `watched` are the figures that
    training takes on the validation split after every epoch.
    """

    main: str
    metrics: dict[str, Direction]
    default: tuple[str, ...]
    watched: tuple[str, ...]
    networks: tuple[str, ...]
    """Networks of the recipe language that can take the task's inputs; none where there is nothing to learn from."""
    has_classes: bool = False
    """Whether one of several classes is predicted, so that labels can be smoothed."""
    has_labels: bool = False
    """Whether every sample is of one class, so that classes can be weighed."""
    has_images: bool = False
    """Whether the inputs are images, so that they can be augmented."""


TASKS: dict[str, TaskVocabulary] = {
    "image-classification": TaskVocabulary(
        main="accuracy",
        metrics={
            "accuracy": "higher",
            "top_<k>_accuracy": "higher",
            "precision": "higher",
            "recall": "higher",
            "f1": "higher",
            "log_loss": "lower",
        },
        default=("accuracy", "precision", "recall", "f1", "log_loss"),
        watched=("loss", "accuracy"),
        networks=("linear", "mlp", "cnn", "resnet", "vit"),
        has_classes=True,
        has_labels=True,
        has_images=True,
    ),
    "regression": TaskVocabulary(
        main="rmse",
        metrics={"mse": "lower", "rmse": "lower", "mae": "lower", "r2": "higher"},
        default=("mse", "rmse", "mae", "r2"),
        watched=("loss", "rmse", "mae"),
        networks=("linear", "mlp"),
    ),
    "embedding": TaskVocabulary(
        main="cosine",
        metrics={"cosine": "higher", "worst_cosine": "higher"},
        default=("cosine", "worst_cosine"),
        watched=(),
        networks=(),
    ),
    "language-modeling": TaskVocabulary(
        main="bits_per_character",
        metrics={
            "bits_per_character": "lower",
            "perplexity": "lower",
            "loss": "lower",
            "accuracy": "higher",
        },
        default=("bits_per_character", "perplexity", "loss", "accuracy"),
        watched=("loss", "bits_per_character", "accuracy"),
        networks=("transformer", "lstm", "gru"),
        has_classes=True,
    ),
}
"""The one table of tasks' metrics; `mlctl.tasks.table` holds what each task does."""
