"""A student's lessons: what of its loss comes from a teacher's answers."""

from dataclasses import dataclass

from torch import Tensor

from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.distillation_losses import decoupled, soft_targets, squared_distance
from mlctl.compression.distillation.teacher import Inputs, Teacher


@dataclass(frozen=True)
class AnswerLoss:
    """How far answers are apart, as the recipe wants them compared.

    `others_weight` is None for softened answers as a whole; numbers are compared by their squared distance, whatever
    is asked for.
    """

    form: AnswerForm
    temperature: float
    others_weight: float | None = None

    def __call__(self, outputs: Tensor, targets: Tensor, rows: tuple[Tensor, ...]) -> Tensor:
        """The mean over samples of raw `outputs` [B, ...] from a teacher's `rows`, kept in the form; a scalar."""
        if self.form.name == "numbers":
            return squared_distance(outputs, rows[0])
        student, teacher, places = self.form.compared(outputs, targets, rows)
        if self.others_weight is None:
            return soft_targets(student, teacher, self.temperature)
        return decoupled(student, teacher, places, self.temperature, others_weight=self.others_weight)


class AnswersKept:
    """Lessons from answers that were computed once: every sample's `guides` are its rows of them."""

    def __init__(self, hard: float, answer_loss: AnswerLoss) -> None:
        """`hard` is the share of the task's own loss; the answers have the rest."""
        self.hard = hard
        self._answer_loss = answer_loss

    def loss(self, outputs: Tensor, targets: Tensor, inputs: Inputs, guides: tuple[Tensor, ...]) -> Tensor:
        return (1 - self.hard) * self._answer_loss(outputs, targets, guides)


class AnswersAsked:
    """Lessons from a teacher that answers what the student sees, in every step."""

    def __init__(self, hard: float, answer_loss: AnswerLoss, teacher: Teacher) -> None:
        """`answer_loss` compares whole raw outputs: its form keeps all of them."""
        self.hard = hard
        self._answer_loss = answer_loss
        self._teacher = teacher

    def loss(self, outputs: Tensor, targets: Tensor, inputs: Inputs, guides: tuple[Tensor, ...]) -> Tensor:
        return (1 - self.hard) * self._answer_loss(outputs, targets, (self._teacher(inputs),))
