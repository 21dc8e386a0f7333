"""Image classification: one label out of several for every image."""

import json
import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.data.description import DataDescription, Scaling
from mlctl.data.reading import Category, Numbers, Pixels, Reading, Standardize
from mlctl.metrics.classification import classification_figure, confusion, is_rate, right_answers
from mlctl.metrics.intervals import figure_interval
from mlctl.recipe.prepare import ImageClassificationData
from mlctl.recipe.vocabulary import Direction
from mlctl.tasks.objective import Objective
from mlctl.tasks.task import Answers, Measured, Task


class ImageClassification(Task[ImageClassificationData]):
    """Images in, a probability for every class out."""

    name = "image-classification"
    output_name = "probabilities"
    decision = "argmax"

    def reading(self, settings: ImageClassificationData) -> Reading:
        """Pixel columns where the recipe names them, else image files."""
        image = settings.image
        standardize: Standardize = "first-axis" if image.standardize else "no"
        pixels = (
            Numbers("image", image.columns, image.shape, image.scale, standardize)
            if image.columns
            else Pixels("image", image.shape, image.scale, standardize)
        )
        return Reading(self.name, (pixels,), Category(settings.label))

    def outputs(self, data: DataDescription) -> int:
        """One for every class."""
        return len(data.labels)

    def objective(self, data: DataDescription) -> Objective:
        """Cross entropy, and the share of right answers."""
        return CrossEntropy()

    def finish(self, target_scaling: Scaling) -> nn.Module:
        """Softmax over the classes."""
        return nn.Softmax(dim=1)

    def measure(
        self, metrics: tuple[str, ...], answers: Answers, targets: Answers, confidence: float
    ) -> tuple[Measured, ...]:
        """Figures over probabilities [N, C] and class numbers [N]."""
        measured = []
        for name in metrics:
            interval = figure_interval(name, answers, targets, confidence=confidence, seed=0)
            value = classification_figure(name, answers, targets)
            measured.append(Measured(name, value, interval.low, interval.high))
        return tuple(measured)

    def right(self, metric: str, answers: Answers, targets: Answers) -> npt.NDArray[np.bool_] | None:
        """Right answers, for accuracy and top-k accuracy."""
        return right_answers(metric, answers, targets) if is_rate(metric) else None

    def report(self, answers: Answers, targets: Answers, labels: tuple[str, ...]) -> str | None:
        """The confusion matrix: rows are true classes, columns are answers."""
        matrix = confusion(answers, targets)
        return json.dumps({"labels": labels, "confusion": matrix.tolist()}, ensure_ascii=False)


class CrossEntropy(Objective):
    """Mean cross entropy of the true class, in nats; watches the loss and the accuracy."""

    watched: tuple[tuple[str, Direction], ...] = (("loss", "lower"), ("accuracy", "higher"))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Mean over logits [B, C] and class numbers [B]."""
        return functional.cross_entropy(outputs, targets)

    def totals(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Summed loss and number of right answers."""
        loss = functional.cross_entropy(outputs.float(), targets, reduction="sum")
        return torch.stack([loss.double(), (outputs.argmax(dim=1) == targets).sum().double()])

    def figures(self, totals: Tensor, count: int) -> tuple[float, ...]:
        """Mean loss and accuracy."""
        return tuple(float(total) / count if count else math.nan for total in totals.tolist())
