"""What a quantized graph loses against its parent, on the validation split, sample by sample."""

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from mlctl.compression.sensitivity import decibels
from mlctl.compression.serialization import serialized
from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.errors import StepFailed
from mlctl.graphs.parity import agreement
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.runtime.answers import answer
from mlctl.runtime.session import OnnxSession
from mlctl.tasks.pairing import PairedDifference, metric_difference
from mlctl.tasks.table import TASKS
from mlctl.tasks.task import Answers

if TYPE_CHECKING:
    from onnx import ModelProto

ANSWER_BATCH = 64
CONFIDENCE = 0.95


class Judge:
    """Compares graphs with the float one on the same rows, by the task's main metric."""

    def __init__(self, prepared: PreparedData, parent: OnnxSession, work: Work) -> None:
        self.parent = parent
        self._work = work
        self._rows = prepared.split("validation")
        self._task = TASKS[prepared.description.task]
        vocabulary = VOCABULARY[self._task.name]
        self._metric = vocabulary.main
        self._sign = 1 if vocabulary.metrics[vocabulary.main] == "higher" else -1
        self._expected = answer(parent, self._rows.inputs, ANSWER_BATCH)
        is_judged_by_parent = self._task.judged_against == "first-model"
        self._targets = self._expected if is_judged_by_parent else self._rows.targets

    def drop(self, model: "ModelProto") -> float:
        """What `model` loses of the main metric, in the metric's own unit; negative where it gains."""
        try:
            answers = self._answers(model)
        except StepFailed:  # answers that are no numbers: nothing worse can be lost
            return inf
        return self._sign * self._difference(answers).estimate

    def compared(self, model: "ModelProto") -> tuple[Figure, ...]:
        """The loss with its interval, the share of equal decisions, and signal over noise of the answers."""
        return tuple(self._figures(self._answers(model)))

    def _answers(self, model: "ModelProto") -> Answers:
        session = OnnxSession(serialized(model), threads=self._work.threads)
        return answer(session, self._rows.inputs, ANSWER_BATCH)

    def _difference(self, answers: Answers) -> PairedDifference:
        return metric_difference(self._task, self._metric, (self._expected, answers), self._targets, CONFIDENCE)

    def _figures(self, answers: Answers) -> Iterator[Figure]:
        found = self._difference(answers)
        low, high = sorted((self._sign * found.interval.low, self._sign * found.interval.high))
        yield Figure(
            "drop",
            Kind.METRIC,
            self._sign * found.estimate,
            better="lower",
            low=low,
            high=high,
            confidence=CONFIDENCE,
        )
        agrees = agreement(self._expected, answers, self._task.decision)
        yield Figure("agreement", Kind.PARITY, agrees, better="higher")
        noise = decibels((self._expected,), (answers,))
        yield Figure("signal_to_noise", Kind.PARITY, noise, "dB", better="higher")
