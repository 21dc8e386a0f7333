"""Image classification: one label out of several for every image."""

import json
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mlctl.data.description import DataDescription, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Numbers, Pixels, Reading, Standardize
from mlctl.errors import DataError
from mlctl.metrics.agreement import share_alike
from mlctl.metrics.classification import classification_figure, confusion, is_rate, right_answers
from mlctl.metrics.intervals import figure_interval
from mlctl.recipe.prepare import ImageClassificationData
from mlctl.recipe.train import FitSettings
from mlctl.tasks.task import Answers, Ending, Measured, Task

if TYPE_CHECKING:
    from torch import nn

    from mlctl.tasks.objective import Objective

SUM_TOLERANCE = 1e-3
"""How far a row of probabilities may be from 1 in all: a float16 softmax over a thousand classes stays within it."""


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

    def objective(self, data: PreparedData, settings: FitSettings) -> "Objective":
        """Cross entropy, and the share of right answers."""
        from mlctl.tasks.class_weights import class_weights
        from mlctl.tasks.cross_entropy import CrossEntropy

        asked, targets = settings.class_weights, data.split("train").targets
        weights = class_weights(asked, targets, data.description.labels) if asked else None
        return CrossEntropy(settings.label_smoothing, None if weights is None else weights.tolist())

    def finish(self, target_scaling: Scaling) -> "nn.Module":
        """Softmax over the classes."""
        from torch import nn

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

    def ending(self, answers: Answers, labels: tuple[str, ...]) -> Ending | None:
        """Softmax, unless the answers are probabilities [N, C] already."""
        if answers.shape[1:] != (len(labels),):
            raise DataError(
                f"the model answers with the shape {list(answers.shape[1:])} for every row, the data has "
                f"{len(labels)} classes",
                next="give a model with one output for every class, or data with the classes that it learnt",
            )
        sums = answers.astype(np.float64).sum(axis=1)
        are_probabilities = bool((answers >= 0).all() and (np.abs(sums - 1) <= SUM_TOLERANCE).all())
        return None if are_probabilities else "softmax"

    def right(self, metric: str, answers: Answers, targets: Answers) -> npt.NDArray[np.bool_] | None:
        """Right answers, for accuracy and top-k accuracy."""
        return right_answers(metric, answers, targets) if is_rate(metric) else None

    def likeness(self, first: Answers, second: Answers, confidence: float) -> Measured:
        """The share of images to which both answer the same class."""
        share, interval = share_alike(first, second, confidence)
        return Measured("agreement", share, interval.low, interval.high)

    def report(self, answers: Answers, targets: Answers, labels: tuple[str, ...]) -> str | None:
        """The confusion matrix: rows are true classes, columns are answers."""
        matrix = confusion(answers, targets)
        return json.dumps({"labels": labels, "confusion": matrix.tolist()}, ensure_ascii=False)
