"""What a task is: everything that makes one purpose of a model different from another."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Reading
from mlctl.metrics.resampling import Resampler, resampler
from mlctl.recipe.prepare import DataSettings
from mlctl.recipe.train import FitSettings

if TYPE_CHECKING:
    from torch import nn

    from mlctl.tasks.objective import Objective

Ending: TypeAlias = Literal["softmax", "flatten"]
"""What a graph from elsewhere can lack at its end: logits become probabilities, [N, 1] becomes [N]."""

DataT = TypeVar("DataT", bound=DataSettings)
Answers: TypeAlias = npt.NDArray[Any]
"""A model's answers, [N, ...], one row for every sample."""


@dataclass(frozen=True)
class Measured:
    """A figure of one model over all samples, with its interval."""

    name: str
    value: float
    low: float
    high: float


class Task(ABC, Generic[DataT]):
    """What a model is for: what it reads and answers, what it learns by, and how it is judged.

    Only what trains needs torch: tasks import it in `objective` and `finish`, so that data are prepared and graphs are
    judged without the seconds that it takes to load.
    """

    name: ClassVar[str]
    output_name: ClassVar[str]
    """Name of the graph's output."""
    decision: ClassVar[Literal["argmax", "none"]]
    """How an answer becomes a decision, for the agreement of two models."""
    judged_against: ClassVar[Literal["targets", "first-model"]] = "targets"
    """What an evaluation holds a model's answers against: the data's targets, or the first model's answers."""
    open_dimensions: ClassVar[Mapping[tuple[str, int], str]] = {}
    """Dimensions of the exported graph that stay open beside the batch: input or output, axis, and a name."""

    @abstractmethod
    def reading(self, settings: DataT) -> Reading:
        """What is read from the source."""

    @abstractmethod
    def outputs(self, data: DataDescription) -> int:
        """Width of the network's last layer."""

    @abstractmethod
    def objective(self, data: PreparedData, settings: FitSettings) -> "Objective":
        """What training on `data` minimises and watches, as `settings` say of label smoothing and class weights."""

    def input_dtype(self, field: Field) -> str:
        """The NumPy dtype that a model takes for an input which is stored as `field` says."""
        return field.dtype

    @abstractmethod
    def finish(self, target_scaling: Scaling) -> "nn.Module":
        """Turns the network's raw outputs into answers; it becomes the end of the exported graph."""

    @abstractmethod
    def measure(
        self, metrics: tuple[str, ...], answers: Answers, targets: Answers, confidence: float
    ) -> tuple[Measured, ...]:
        """The figures of these names, in their order."""

    def kept(self, answers: Answers, targets: Answers, data: PreparedData) -> Answers:
        """What an evaluation keeps of a batch of answers [B, ...] to rows with these targets [B, ...]: [B, ...].

        All of it, unless that would be far more than figures need. `measure`, `resampler`, `right` and `report` are
        given what was kept.
        """
        return answers

    def kept_targets(self, targets: Answers) -> Answers:
        """What an evaluation keeps of the targets [N, ...] beside the answers: [N, ...]."""
        return targets

    def resampler(self, metric: str, answers: Answers, targets: Answers) -> Resampler:
        """What gives the metric of resamples: numbers of samples int64 [R, N] in, float64 [R] out."""
        return resampler(metric, answers, targets)

    def ending(self, answers: Answers, labels: tuple[str, ...]) -> Ending | None:
        """What a graph from elsewhere lacks, by its answers to held-out rows [N, ...]; None where it is complete.

        Raises DataError for answers that cannot be this task's.
        """
        return None

    def right(self, metric: str, answers: Answers, targets: Answers) -> npt.NDArray[np.bool_] | None:
        """Which samples are right, [N], where the metric is the share of right ones; else None."""
        return None

    def likeness(self, first: Answers, second: Answers, confidence: float) -> Measured | None:
        """How alike two models answered the same samples, of what was kept; None where their own figures say it."""
        return None

    def report(self, answers: Answers, targets: Answers, labels: tuple[str, ...]) -> str | None:
        """JSON text with what figures cannot say, such as a confusion matrix; None where there is nothing."""
        return None
