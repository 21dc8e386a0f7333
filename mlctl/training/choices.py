"""What a training chose by itself, and why: for the manifest and for `mlctl show`."""

from dataclasses import dataclass

from torch import nn

from mlctl.recipe.train import FitSettings
from mlctl.training.batches import Batches
from mlctl.training.learner import Learner
from mlctl.training.parts import Parts
from mlctl.training.placing import has_kernels


@dataclass(frozen=True)
class Chosen:
    """What was to be chosen, and what it came to, with the reason behind a colon."""

    about: str
    text: str

    def __str__(self) -> str:
        return f"{self.about} {self.text}"


def choices_of(learner: Learner, batches: tuple[Batches, Batches], *, keeps_memory: bool) -> tuple[Chosen, ...]:
    """All choices of a training that is over; `keeps_memory` says whether freed memory stayed with the process."""
    precision = learner.precision
    return (
        Chosen("device", str(learner.device)),
        Chosen("precision", f"{precision.precision}: {precision.reason}"),
        Chosen("layout", _layout(learner.network)),
        Chosen("data", _data(batches)),
        Chosen("micro_batch", _micro_batch(learner.settings, learner.parts)),
        Chosen("compile", str(learner.compilation)),
        Chosen("allocator", _allocator(learner, keeps_memory=keeps_memory)),
    )


def _layout(network: nn.Module) -> str:
    if has_kernels(network):
        return "channels last: the network has kernels over images"
    return "plain: the network has no kernels over images"


def _data(batches: tuple[Batches, Batches]) -> str:
    device = batches[0].device
    if all(each.is_resident for each in batches):
        return f"resident: all of it fits into the memory of {device}"
    return f"prefetched: too large for the memory of {device}, so a thread gathers every batch ahead"


def _micro_batch(settings: FitSettings, parts: Parts) -> str:
    asked = settings.micro_batch or settings.batch_size
    if parts.size < min(asked, settings.batch_size):
        return f"{parts.size}: {parts.device} has no room for more"
    if settings.micro_batch and settings.micro_batch < settings.batch_size:
        return f"{settings.micro_batch}: the recipe asks for it"
    return f"{settings.batch_size}: a whole batch at once"


def _allocator(learner: Learner, *, keeps_memory: bool) -> str:
    if keeps_memory:
        return "keeps freed memory: every step wants as much again (glibc's mallopt)"
    return "torch's own" if learner.device.type == "cuda" else "the C library's, as it is: it is not glibc"
