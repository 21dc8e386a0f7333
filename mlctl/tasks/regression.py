"""Regression: one number for every row."""

from typing import TYPE_CHECKING

from mlctl.data.description import DataDescription, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Number, Numbers, Reading, Standardize
from mlctl.errors import DataError
from mlctl.metrics.agreement import root_mean_square_apart
from mlctl.metrics.intervals import figure_interval
from mlctl.metrics.regression import regression_figure
from mlctl.recipe.prepare import RegressionData
from mlctl.recipe.train import FitSettings
from mlctl.tasks.task import Answers, Ending, Measured, Task

if TYPE_CHECKING:
    from torch import nn

    from mlctl.tasks.objective import Objective


class Regression(Task[RegressionData]):
    """Numeric columns in, a number in the target's own unit out."""

    name = "regression"
    output_name = "prediction"
    decision = "none"

    def reading(self, settings: RegressionData) -> Reading:
        """The feature columns, and the target column."""
        standardize: Standardize = "first-axis" if settings.features.standardize else "no"
        features = Numbers("features", settings.features.columns, standardize=standardize)
        return Reading(self.name, (features,), Number(settings.target, settings.standardize_target))

    def outputs(self, data: DataDescription) -> int:
        """One number."""
        return 1

    def objective(self, data: PreparedData, settings: FitSettings) -> "Objective":
        """Squared error in deviations of the target; errors in its own unit are watched."""
        from mlctl.tasks.squared_error import SquaredError, Unit

        return SquaredError(Unit.of(data.description.target_scaling))

    def finish(self, target_scaling: Scaling) -> "nn.Module":
        """Deviations from the mean become the target's own unit, [B]."""
        from mlctl.tasks.squared_error import OwnUnit, Unit

        unit = Unit.of(target_scaling)
        return OwnUnit(unit.mean, unit.deviation)

    def measure(
        self, metrics: tuple[str, ...], answers: Answers, targets: Answers, confidence: float
    ) -> tuple[Measured, ...]:
        """Figures over predictions [N] and targets [N]."""
        measured = []
        for name in metrics:
            interval = figure_interval(name, answers, targets, confidence=confidence, seed=0)
            measured.append(Measured(name, regression_figure(name, answers, targets), interval.low, interval.high))
        return tuple(measured)

    def likeness(self, first: Answers, second: Answers, confidence: float) -> Measured:
        """How far apart the predictions lie, in the target's own unit."""
        apart, interval = root_mean_square_apart(first, second, confidence)
        return Measured("rms_apart", apart, interval.low, interval.high)

    def ending(self, answers: Answers, labels: tuple[str, ...]) -> Ending | None:
        """[N, 1] becomes [N]."""
        if answers.shape[1:] not in ((), (1,)):
            raise DataError(
                f"the model answers with the shape {list(answers.shape[1:])} for every row, not with one number",
                next="give a model with one output",
            )
        return "flatten" if answers.ndim == 2 else None
