"""Embedding: arrays in, an array for every row out, judged by its nearness to another model's."""

from typing import TYPE_CHECKING

from mlctl.data.description import DataDescription, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import EveryArray, Reading
from mlctl.errors import StepFailed
from mlctl.metrics.intervals import figure_interval
from mlctl.metrics.nearness import nearness_figure
from mlctl.recipe.prepare import EmbeddingData
from mlctl.recipe.train import FitSettings
from mlctl.tasks.task import Answers, Measured, Task

if TYPE_CHECKING:
    from torch import nn

    from mlctl.tasks.objective import Objective


class Embedding(Task[EmbeddingData]):
    """Any arrays in, any array out: there is no truth, so the first model that is evaluated is what others should be.

    No network learns it; its models are made elsewhere.
    """

    name = "embedding"
    output_name = "embedding"
    decision = "none"
    judged_against = "first-model"

    def reading(self, settings: EmbeddingData) -> Reading:
        """Every array of the source, and no target."""
        return Reading(self.name, (EveryArray(),), None)

    def outputs(self, data: DataDescription) -> int:
        """Never called: a recipe that trains on such data is refused when it is read."""
        raise AssertionError(self.name)

    def objective(self, data: PreparedData, settings: FitSettings) -> "Objective":
        """Never called: a recipe that trains on such data is refused when it is read."""
        raise AssertionError(self.name)

    def finish(self, target_scaling: Scaling) -> "nn.Module":
        """Answers stay as they are."""
        from torch import nn

        return nn.Identity()

    def measure(
        self, metrics: tuple[str, ...], answers: Answers, targets: Answers, confidence: float
    ) -> tuple[Measured, ...]:
        """Figures over answers [N, ...] and the first model's [N, ...]; StepFailed where their shapes differ."""
        if answers.shape != targets.shape:
            raise StepFailed(
                f"the model answers with the shape {list(answers.shape[1:])} for every row, the first one with "
                f"{list(targets.shape[1:])}",
                next="evaluate models that answer alike",
            )
        measured = []
        for name in metrics:
            interval = figure_interval(name, answers, targets, confidence=confidence, seed=0)
            measured.append(Measured(name, nearness_figure(name, answers, targets), interval.low, interval.high))
        return tuple(measured)
