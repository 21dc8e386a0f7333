"""Language modeling: the next token of a text, at every place."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Reading
from mlctl.errors import DataError, StepFailed
from mlctl.metrics.intervals import percentile_interval
from mlctl.metrics.language_modeling import (
    language_modeling_figure,
    language_modeling_resampler,
    window_totals,
)
from mlctl.metrics.resampling import Resampler, bootstrapped
from mlctl.recipe.prepare import LanguageModelingData
from mlctl.recipe.train import FitSettings
from mlctl.tasks.task import Answers, Ending, Measured, Task

if TYPE_CHECKING:
    from torch import nn

    from mlctl.tasks.objective import Objective

# B batch, N windows, T tokens of a window, V vocabulary


class LanguageModeling(Task[LanguageModelingData]):
    """Tokens [B, T] in, a logit for every token that could come next [B, T, V] out.

    What is kept of the answers to a window are its totals, [4], from which every figure is made.
    """

    name = "language-modeling"
    output_name = "logits"
    decision = "argmax"
    open_dimensions: ClassVar[Mapping[tuple[str, int], str]] = {("tokens", 1): "sequence", ("logits", 1): "sequence"}

    def reading(self, settings: LanguageModelingData) -> Reading:
        """Never called: text is no rows, and `data.text_preparation` reads it."""
        raise AssertionError(self.name)

    def outputs(self, data: DataDescription) -> int:
        """One for every token."""
        return data.vocabulary

    def objective(self, data: PreparedData, settings: FitSettings) -> "Objective":
        """Cross entropy of the next token."""
        from mlctl.tasks.next_token import NextToken

        return NextToken(data.token_characters, settings.label_smoothing)

    def input_dtype(self, field: Field) -> str:
        """int64, as networks and graphs take tokens, whatever they are stored in."""
        return "int64"

    def finish(self, target_scaling: Scaling) -> "nn.Module":
        """Logits stay as they are: whoever draws the next token has a temperature of their own."""
        from torch import nn

        return nn.Identity()

    def kept(self, answers: Answers, targets: Answers, data: PreparedData) -> Answers:
        """Totals float64 [B, 4] of logits [B, T, V] to windows with these next tokens [B, T]."""
        wanted = (*targets.shape, data.description.vocabulary)
        if answers.shape != wanted:
            raise StepFailed(
                f"the model answers {len(targets)} windows with the shape {list(answers.shape)}, not {list(wanted)}",
                next="let it give one logit for every token of the vocabulary, at every place",
            )
        return window_totals(answers, targets, data.token_characters)

    def kept_targets(self, targets: Answers) -> Answers:
        """Nothing, [N, 0]: what came next is in the totals already."""
        return np.zeros((len(targets), 0))

    def measure(
        self, metrics: tuple[str, ...], answers: Answers, targets: Answers, confidence: float
    ) -> tuple[Measured, ...]:
        """Figures over the windows' totals [N, 4], with bootstrap intervals over windows."""
        measured = []
        for name in metrics:
            draws = bootstrapped(self.resampler(name, answers, targets), len(answers), seed=0)
            interval = percentile_interval(draws, confidence)
            measured.append(Measured(name, language_modeling_figure(name, answers), interval.low, interval.high))
        return tuple(measured)

    def resampler(self, metric: str, answers: Answers, targets: Answers) -> Resampler:
        """Ratios of sums over the windows that are drawn."""
        return language_modeling_resampler(metric, answers)

    def ending(self, answers: Answers, labels: tuple[str, ...]) -> Ending | None:
        """Logits lack nothing; DataError unless they are [N, T, V]."""
        if answers.ndim != 3:
            raise DataError(
                f"the model answers with the shape {list(answers.shape[1:])} for every row, not with logits of every "
                "token at every place",
                next="give a model whose first output is [batch, sequence, vocabulary]",
            )
        return None
