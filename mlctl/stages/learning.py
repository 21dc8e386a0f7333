"""How a train step learns: what is looked at before, who takes part, and what was chosen by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlctl.data.prepared import PreparedData, Split
from mlctl.digests import Json
from mlctl.engine.stage import Work
from mlctl.events import Note
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.recipe.train import TrainSettings
from mlctl.stages.peers import joined
from mlctl.tasks.table import TASKS
from mlctl.training.batches import Samples
from mlctl.training.failures import named_failures
from mlctl.training.loop import Fitted, fit
from mlctl.training.own_networks import named_mistakes, require_answers
from mlctl.training.targets import require_learnable
from mlctl.training.tracking import TrackedTraining, Trackers, make_trackers
from mlctl.training.trained import fresh_model, use_threads


@dataclass(frozen=True)
class Lesson:
    """A train step as its recipe asks for it: its settings, the seed, and what it is called."""

    settings: TrainSettings
    resolved: Mapping[str, Json]
    """All settings that decide the bytes, for who follows the training."""
    seed: int
    recipe: str
    step: str
    base: Path
    """The folder of the recipe."""


def learnt(lesson: Lesson, config: ModelConfig, data: PreparedData, work: Work) -> tuple[CompleteModel, Fitted]:
    """The trained model and how it came about; what was chosen is written into the work's choices.

    Raises DataError for targets that cannot be learnt, and what `fit` raises.
    """
    use_threads(work.threads)
    group, device = joined(work)
    objective = TASKS[config.task].objective(data, lesson.settings)
    train, validation = (_samples(data, name, config, work) for name in ("train", "validation"))
    with named_failures(device):
        model = fresh_model(config, lesson.seed, work.code)
    require_answers(model, config, train.inputs)
    if lesson.settings.compile and device.type == "cpu":
        work.tell(Note("on a CPU torch.compile takes longer to build most networks than it ever saves"))
    with named_mistakes(config), _trackers(lesson, work) as trackers:
        fitted = fit(
            model,
            train,
            validation,
            objective,
            lesson.settings,
            seed=lesson.seed,
            device=device,
            resume=work.resume,
            tell=work.tell,
            group=group,
            trackers=trackers,
        )
    if fitted.stopped_early:
        work.tell(Note(f"stopped early after epoch {len(fitted.history)} of {lesson.settings.epochs}"))
    work.choices.update({each.about: each.text for each in fitted.choices})
    if group.backend:
        work.choices.update({"processes": str(group.count), "backend": group.backend})
    return model, fitted


def _samples(data: PreparedData, name: str, config: ModelConfig, work: Work) -> Samples:
    split: Split = data.split(name)
    samples = Samples(split.inputs, split.targets, split.rows, split.stream)
    require_learnable(samples, config.outputs, name)
    return samples


def _trackers(lesson: Lesson, work: Work) -> Trackers:
    """Who hears of every epoch; of several processes, the leader alone speaks."""
    if work.company.is_follower:
        return Trackers()
    training = TrackedTraining(
        recipe=lesson.recipe,
        step=lesson.step,
        fingerprint=work.fingerprint,
        settings=lesson.resolved,
        base=lesson.base,
        resume=work.resume,
    )
    return make_trackers(lesson.settings.track, training, work.tell)
