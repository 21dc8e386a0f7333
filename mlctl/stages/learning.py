"""How a step learns: what is looked at before, who takes part, and what was chosen by itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mlctl.data.prepared import PreparedData, Split
from mlctl.digests import Json
from mlctl.engine.stage import Work
from mlctl.events import Note
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.recipe.train import FitSettings
from mlctl.stages.peers import joined
from mlctl.tasks.table import TASKS
from mlctl.training.batches import Samples
from mlctl.training.failures import named_failures
from mlctl.training.learner import AfterStep
from mlctl.training.loop import Fitted, fit
from mlctl.training.own_networks import named_mistakes, require_answers
from mlctl.training.rows import Array
from mlctl.training.targets import require_learnable
from mlctl.training.teaching import Teaching
from mlctl.training.tracking import TrackedTraining, Trackers, make_trackers
from mlctl.training.trained import fresh_model, use_threads


@dataclass(frozen=True)
class Lesson:
    """A training as its recipe asks for it: its settings, the seed, and what it is called."""

    settings: FitSettings
    resolved: Mapping[str, Json]
    """All settings that decide the bytes, for who follows the training."""
    seed: int
    recipe: str
    step: str
    base: Path
    """The folder of the recipe."""


@dataclass(frozen=True)
class Beside:
    """What takes part in a training beside its data: nothing of this in a plain one."""

    teaching: Teaching | None = None
    guides: tuple[Array, ...] = ()
    """What is known of every row of the train split, [N, ...] each, as `teaching` wants it."""
    after_step: AfterStep | None = None


PLAIN = Beside()


def begun(config: ModelConfig, seed: int, work: Work) -> CompleteModel:
    """The model as a training begins with it: weights drawn from the seed. Raises OutOfMemory."""
    use_threads(work.threads)
    # Processes meet before any of them can fail alone.
    _, device = joined(work)
    with named_failures(device):
        return fresh_model(config, seed, work.code)


def taught(
    lesson: Lesson,
    trained: tuple[ModelConfig, CompleteModel],
    data: PreparedData,
    work: Work,
    *,
    resume: Path,
    beside: Beside = PLAIN,
) -> Fitted:
    """Train the model from the weights that it has; what was chosen is written into the work's choices.

    `resume` is a folder for this training alone. Raises DataError for targets that cannot be learnt, and what `fit`
    raises.
    """
    config, model = trained
    use_threads(work.threads)
    group, device = joined(work)
    objective = TASKS[config.task].objective(data, lesson.settings)
    train, validation = split_samples(data, "train", config, beside.guides), split_samples(data, "validation", config)
    require_answers(model, config, train.inputs)
    if lesson.settings.compile and device.type == "cpu":
        work.tell(Note("on a CPU torch.compile takes longer to build most networks than it ever saves"))
    with named_mistakes(config), trackers_of(lesson, work, resume) as trackers:
        fitted = fit(
            model,
            train,
            validation,
            objective,
            lesson.settings,
            seed=lesson.seed,
            device=device,
            resume=resume,
            tell=work.tell,
            group=group,
            trackers=trackers,
            teaching=beside.teaching,
            after_step=beside.after_step,
        )
    if fitted.stopped_early:
        work.tell(Note(f"stopped early after epoch {len(fitted.history)} of {lesson.settings.epochs}"))
    work.choices.update({each.about: each.text for each in fitted.choices})
    if group.backend:
        work.choices.update({"processes": str(group.count), "backend": group.backend})
    return fitted


def split_samples(data: PreparedData, name: str, config: ModelConfig, guides: tuple[Array, ...] = ()) -> Samples:
    """A split as the loop takes it. Raises DataError for targets that cannot be learnt."""
    split: Split = data.split(name)
    samples = Samples(split.inputs, split.targets, split.rows, split.stream, guides)
    require_learnable(samples, config.outputs, name)
    return samples


def trackers_of(lesson: Lesson, work: Work, resume: Path) -> Trackers:
    """Who hears of every epoch; of several processes, the leader alone speaks."""
    if work.company.is_follower:
        return Trackers()
    training = TrackedTraining(
        recipe=lesson.recipe,
        step=lesson.step,
        fingerprint=work.fingerprint,
        settings=lesson.resolved,
        base=lesson.base,
        resume=resume,
    )
    return make_trackers(lesson.settings.track, training, work.tell)
