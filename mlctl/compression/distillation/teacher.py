"""What a student learns from: anything that turns raw inputs into raw outputs."""

from dataclasses import dataclass
from typing import Protocol, Self, TypeAlias

import torch
from torch import Tensor

from mlctl.models.complete import CompleteModel
from mlctl.tasks.squared_error import Unit
from mlctl.training.placing import has_kernels
from mlctl.training.precision import Choice, autocast

Inputs: TypeAlias = tuple[Tensor, ...]


class Teacher(Protocol):
    """Raw inputs [B, ...] in, raw outputs out, as a network of the task would give them before its answers' last part.

    Those are logits [B, C], logits [B, T, V] of every place's next token, or numbers [B, 1] in the unit that the
    target is scaled to, float32 on the device of the inputs. An offset that a row's logits share means nothing.
    """

    identity: str
    """Which teacher answers, so that answers of two are never mixed: a version, or a file's digest."""

    def __call__(self, inputs: Inputs, /) -> Tensor:
        """The raw outputs of one batch."""
        ...


@dataclass(frozen=True)
class Rescaling:
    """What brings raw outputs to the unit that the student's target is scaled to: times `factor`, plus `shift`."""

    factor: float = 1.0
    shift: float = 0.0

    @classmethod
    def between(cls, teacher: Unit, student: Unit) -> Self:
        """From the unit that a teacher learnt in to its student's."""
        return cls(teacher.deviation / student.deviation, (teacher.mean - student.mean) / student.deviation)


class NetworkTeacher:
    """A trained network, in evaluation mode and without gradients.

    Its parameters are none of the student's, so that no optimizer sees them. Its answers are float32, computed in the
    precision that is given.
    """

    def __init__(
        self,
        model: CompleteModel,
        device: torch.device,
        precision: Choice,
        identity: str = "",
        rescaling: Rescaling | None = None,
    ) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        if has_kernels(model):
            self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.identity = identity
        self.device = device
        self._precision = precision
        self._rescaling = rescaling

    def __call__(self, inputs: Inputs, /) -> Tensor:
        with torch.no_grad(), autocast(self._precision, self.device):
            found = self.model.raw_outputs(*inputs).float()
        unit = self._rescaling
        return found if unit is None else found * unit.factor + unit.shift
