"""What a distillation needs of its teacher, as far as the recipe alone tells."""

from mlctl.engine.stage import Step
from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.vocabulary import TASKS
from mlctl.stages.artifacts import Data
from mlctl.stages.teach import Teach, TeacherAnswers
from mlctl.stages.teacher_source import TeacherSource
from mlctl.stages.wiring import Above, WiringError


def imitates_layers(settings: DistillSettings) -> bool:
    """Whether the student learns from layers within the teacher."""
    return settings.loss in ("features", "attention")


def asks_in_every_step(settings: DistillSettings) -> bool:
    """Whether the teacher takes part in the training, and not only its answers: it must see what the student sees."""
    return settings.augment is not None or imitates_layers(settings)


def answers_step(
    settings: DistillSettings, source: TeacherSource, data: Step[Data], above: Above
) -> Step[TeacherAnswers] | None:
    """The step in which the teacher answers once, `distill:teacher`; None where it is asked in every step."""
    if asks_in_every_step(settings):
        return None
    return Step(f"{above.name}:teacher", Teach(source, data, above.task(data), settings.top_k))


def require_teachable(settings: DistillSettings, source: TeacherSource, task: str) -> None:
    """Raise WiringError, naming the key, for what cannot be learnt from this teacher or of this task."""
    if imitates_layers(settings) and not source.is_network:
        raise WiringError(
            "loss", f"{settings.loss} needs a teacher whose layers can be seen: a trained network, a step"
        )
    if settings.layers is not None and not imitates_layers(settings):
        raise WiringError("layers", f"{settings.loss} imitates no layers; take it out, or choose features or attention")
    if settings.initialize and not source.is_network:
        raise WiringError("initialize", "only a trained network, a step, has weights to start from")
    if settings.loss == "decoupled" and not TASKS[task].has_classes:
        raise WiringError("loss", f"decoupled needs classes, and {task} has none; choose soft-targets")
    if settings.loss == "decoupled" and settings.augment is not None and settings.augment.mixup:
        raise WiringError("loss", "decoupled needs one true class, and images that mixup blends have two")
