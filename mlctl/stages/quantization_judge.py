"""What a quantized graph loses against its parent, on the validation split, sample by sample."""

from collections.abc import Iterator
from math import inf
from typing import TYPE_CHECKING

from mlctl.compression.quantization.sensitivity import Noise
from mlctl.compression.quantization.serialization import serialized
from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.errors import StepFailed
from mlctl.graphs.parity import Agreement
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.runtime.answers import answer, in_batches, rows_at_once
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
        self._prepared = prepared
        self._rows = prepared.split("validation")
        self._task = TASKS[prepared.description.task]
        vocabulary = VOCABULARY[self._task.name]
        self._metric = vocabulary.main
        self._sign = 1 if vocabulary.metrics[vocabulary.main] == "higher" else -1
        self._expected = self._kept(parent)
        is_judged_by_parent = self._task.judged_against == "first-model"
        self._targets = self._expected if is_judged_by_parent else self._task.kept_targets(self._rows.targets)

    def drop(self, model: "ModelProto") -> float:
        """What `model` loses of the main metric, in the metric's own unit; negative where it gains."""
        try:
            kept = self._kept(self._session(model))
        except StepFailed:  # answers that are no numbers: nothing worse can be lost
            return inf
        return self._sign * self._difference(kept).estimate

    def compared(self, model: "ModelProto") -> tuple[Figure, ...]:
        """The loss with its interval, the share of equal decisions, and signal over noise of the answers."""
        session = self._session(model)
        return (self._drop(self._kept(session)), *self._likeness(session))

    def _session(self, model: "ModelProto") -> OnnxSession:
        return OnnxSession(serialized(model), threads=self._work.threads)

    def _kept(self, session: OnnxSession) -> Answers:
        """What the task keeps of the answers to all rows."""

        def keep(answers: Answers, rows: slice) -> Answers:
            return self._task.kept(answers, self._rows.targets[rows], self._prepared)

        return answer(session, self._rows.inputs, ANSWER_BATCH, keep=keep)

    def _difference(self, kept: Answers) -> PairedDifference:
        return metric_difference(self._task, self._metric, (self._expected, kept), self._targets, CONFIDENCE)

    def _drop(self, kept: Answers) -> Figure:
        found = self._difference(kept)
        low, high = sorted((self._sign * found.interval.low, self._sign * found.interval.high))
        return Figure(
            "drop",
            Kind.METRIC,
            self._sign * found.estimate,
            better="lower",
            low=low,
            high=high,
            confidence=CONFIDENCE,
        )

    def _likeness(self, session: OnnxSession) -> Iterator[Figure]:
        """Of the answers themselves, batch by batch: together they may be far larger than what is kept of them."""
        agreement, noise = Agreement(self._task.decision), Noise()
        size = rows_at_once(self.parent, self._rows.inputs, ANSWER_BATCH)
        both = (in_batches(each, self._rows.inputs, size) for each in (self.parent, session))
        for (_, expected), (_, given) in zip(*both, strict=True):
            agreement.add(expected, given)
            noise.add(expected, given)
        yield Figure("agreement", Kind.PARITY, agreement.share, better="higher")
        yield Figure("signal_to_noise", Kind.PARITY, noise.decibels, "dB", better="higher")
