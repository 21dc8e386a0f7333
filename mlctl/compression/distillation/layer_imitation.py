"""A student that imitates layers within its teacher."""

# B batch, C channels, H height, W width, T tokens, D width, P places: H · W, or T

from collections.abc import Sequence
from types import TracebackType
from typing import Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from mlctl.compression.distillation.distillation import AnswerLoss
from mlctl.compression.distillation.layer_outputs import Watch
from mlctl.compression.distillation.layer_pairs import LayerPair
from mlctl.compression.distillation.teacher import Inputs, NetworkTeacher
from mlctl.errors import StepFailed
from mlctl.models.complete import CompleteModel


class Pupil(nn.Module):
    """A student while it learns: its own answers, beside projections that learn with it."""

    def __init__(self, student: nn.Module, projections: nn.ModuleList) -> None:
        super().__init__()
        self.student = student
        self.projections = projections

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the student answers."""
        outputs: Tensor = self.student(*inputs)
        if self.training:
            # Several processes train only parameters that have a part in the outputs: here it is nothing.
            for each in self.projections.parameters():
                outputs = outputs + 0 * each.sum().to(outputs.dtype)
        return outputs


class FeatureDistance(nn.Module):
    """The mean squared difference of a projected student's features from a teacher's (Romero et al. 2015, section 2.2).

    The projection is a 1x1 convolution of images, a linear layer of tokens and vectors, and nothing where widths are
    the same. The larger of two images is averaged down to the smaller one's size.
    """

    def __init__(self, pair: LayerPair) -> None:
        super().__init__()
        widths = pair.student.width, pair.teacher.width
        self.projection: nn.Module = nn.Identity()
        if widths[0] != widths[1]:
            self.projection = nn.Conv2d(*widths, 1) if len(pair.student.shape) == 3 else nn.Linear(*widths)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar, for features [B, C, H, W], [B, T, D] or [B, D] each."""
        student, teacher = _same_size(student, teacher)
        return functional.mse_loss(self.projection(student), teacher)


class AttentionDistance(nn.Module):
    """How far apart two layers look (Zagoruyko & Komodakis 2017, equation 2): nothing of it is learnt.

    A map of attention is the mean of squared activations over channels, as a vector of length 1 over all places; the
    distance is that of the two vectors, squared. The larger of two images is averaged down to the smaller one's size.
    """

    def __init__(self, pair: LayerPair) -> None:
        """Raises StepFailed for a pair of vectors, which have no places to look at."""
        super().__init__()
        if not pair.student.places:
            raise StepFailed(
                f"{pair.student} gives one vector per sample, without places that could be looked at",
                next="choose `loss: features`, or name layers that give images or tokens in `distill.layers`",
            )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """A scalar, the mean over samples, for activations [B, C, H, W] or [B, T, D] each."""
        mine, theirs = _same_size(_attention(student), _attention(teacher))
        difference = functional.normalize(mine.flatten(1)) - functional.normalize(theirs.flatten(1))
        return difference.square().sum(1).mean()


Distance: TypeAlias = type[FeatureDistance] | type[AttentionDistance]


class LayersImitated:
    """Lessons from a teacher whose answers and whose layers are imitated, in every step.

    ```
    with LayersImitated(model, teacher, pairs, AttentionDistance, ...) as teaching:
        fit(model, ..., teaching=teaching)        # within, `model.network` is a Pupil; afterwards the student again
    ```
    """

    def __init__(
        self,
        model: CompleteModel,
        teacher: NetworkTeacher,
        pairs: Sequence[LayerPair],
        distance: Distance,
        *,
        answer_loss: AnswerLoss,
        hard: float,
        layer_weight: float,
        seed: int,
    ) -> None:
        """Projections are drawn from `seed`; `layer_weight` is what the mean over all pairs counts."""
        self.hard = hard
        self._model = model
        self._student = model.network
        self._teacher = teacher
        self._pairs = tuple(pairs)
        self._answer_loss = answer_loss
        self._layer_weight = layer_weight
        with torch.random.fork_rng(devices=()):
            torch.manual_seed(seed)
            self._distances = nn.ModuleList(distance(pair) for pair in pairs)

    def __enter__(self) -> Self:
        self._model.network = Pupil(self._student, self._distances)
        self._mine = Watch(self._student, {pair.student.name for pair in self._pairs})
        self._theirs = Watch(self._teacher.model.network, {pair.teacher.name for pair in self._pairs})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._mine.close()
        self._theirs.close()
        self._model.network = self._student

    def loss(self, outputs: Tensor, targets: Tensor, inputs: Inputs, guides: tuple[Tensor, ...]) -> Tensor:
        answers = self._answer_loss(outputs, targets, (self._teacher(inputs),))
        distances = [
            distance(self._mine.outputs[pair.student.name].float(), self._theirs.outputs[pair.teacher.name].float())
            for distance, pair in zip(self._distances, self._pairs, strict=True)
        ]
        # Nothing reads them again: what backward needs is held by the loss.
        self._mine.outputs.clear()
        self._theirs.outputs.clear()
        return (1 - self.hard) * answers + self._layer_weight * torch.stack(distances).mean()


def _attention(activations: Tensor) -> Tensor:
    """Where a layer looks: [B, 1, H, W] of an image, [B, T, 1] of tokens."""
    return activations.square().mean(1 if activations.ndim == 4 else -1, keepdim=True)


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the height and width of the smaller; what is no image has the same places already."""
    if student.ndim != 4 or student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    height, width = (min(sides) for sides in zip(student.shape[2:], teacher.shape[2:], strict=True))
    mine, theirs = (functional.adaptive_avg_pool2d(each, (height, width)) for each in (student, teacher))
    return mine, theirs
