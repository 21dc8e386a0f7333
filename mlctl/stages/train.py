"""train: a network learns from prepared data."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.digests import Json
from mlctl.engine.figures import Direction, Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.errors import Diverged
from mlctl.models.code_file import code_files
from mlctl.recipe.networks import CustomSettings
from mlctl.recipe.train import FitSettings, TrainSettings
from mlctl.recipe.vocabulary import TASKS, TaskVocabulary
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.tokenizer import keep_tokenizer
from mlctl.stages.wiring import Above, WiringError

if TYPE_CHECKING:
    from mlctl.training.loop import Fitted

HISTORY = "metrics.jsonl"
CARD = "README.md"


class Train(Stage[TrainedModel]):
    """Prepared data in, a trained model out."""

    name = "train"
    revision = 2
    is_shared_work = True

    def __init__(self, settings: TrainSettings, data: Step[Data], vocabulary: TaskVocabulary, above: Above) -> None:
        self._settings = settings
        self._seed = above.seed
        self._data = data
        self._base = above.base
        self._title = above.recipe.name, above.name
        self._vocabulary = vocabulary

    @classmethod
    def wired(cls, settings: TrainSettings, above: Above) -> "Train":
        """The stage as a recipe asks for it."""
        data = above.data(settings.data)
        fitting = TASKS[above.task(data)].networks
        if not fitting:
            raise WiringError(None, f"there is nothing to learn from: {data.name} holds data for {above.task(data)}")
        if not isinstance(settings.model, CustomSettings) and settings.model.arch not in fitting:
            raise WiringError(
                "model", f"{settings.model.arch} takes no inputs of {above.task(data)}; choose {' or '.join(fitting)}"
            )
        require_applicable(settings, above.task(data))
        return cls(settings, data, TASKS[above.task(data)], above)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, and the seed of everything random."""
        return {**self._settings.deciding("data"), "seed": self._seed}

    def inputs(self) -> Mapping[str, Step[Data]]:
        """The data."""
        return {"data": self._data}

    @property
    def imports_code(self) -> bool:
        """Whether the network is the user's own."""
        return isinstance(self._settings.model, CustomSettings)

    def sources(self) -> tuple[Path, ...]:
        """The code of the user's own network, if it is one."""
        model = self._settings.model
        return code_files(model.arch, self._base) if isinstance(model, CustomSettings) else ()

    def promises(self) -> tuple[Promise, ...]:
        """The watched figures on the validation split at the weights that were kept, size and speed."""
        return (
            *(Promise(f"validation_{name}", Kind.METRIC) for name in self._vocabulary.watched),
            Promise("epochs", Kind.METRIC),
            Promise("kept_epoch", Kind.METRIC),
            Promise("parameters", Kind.SIZE),
            Promise("bytes", Kind.SIZE),
            Promise("samples_per_second", Kind.LATENCY),
        )

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Train, and write the model, its history and its card."""
        from mlctl.data.prepared import PreparedData
        from mlctl.models.files import WEIGHTS_FILE, save_model
        from mlctl.stages.card import model_card
        from mlctl.stages.learning import Lesson, learnt
        from mlctl.tasks.table import TASKS as TASK_TABLE
        from mlctl.training.own_networks import require_restorable
        from mlctl.training.trained import model_config, parameter_count

        folder = work.artifact(self._data).folder
        data = PreparedData.open(folder)
        task = TASK_TABLE[data.description.task]
        config = model_config(task, self._settings.model, data.description)
        recipe, step = self._title
        lesson = Lesson(self._settings, self.settings(), self._seed, recipe, step, self._base)
        model, fitted = learnt(lesson, config, data, work)
        save_model(work.folder, config, model.network, work.fingerprint)
        keep_tokenizer(folder, work.folder)
        require_restorable(model, config, work.folder, data.split("train").inputs, work.code)
        (work.folder / HISTORY).write_text(fitted.metrics_jsonl)
        figures = (
            *_watched_figures(fitted, task.objective(data, self._settings).watched),
            Figure("epochs", Kind.METRIC, len(fitted.history)),
            Figure("kept_epoch", Kind.METRIC, fitted.kept_epoch),
            Figure("parameters", Kind.SIZE, parameter_count(model.network)),
            Figure("bytes", Kind.SIZE, (work.folder / WEIGHTS_FILE).stat().st_size, "bytes"),
        )
        (work.folder / CARD).write_text(model_card(config, data.description, figures), encoding="utf-8")
        return (*figures, Figure("samples_per_second", Kind.LATENCY, fitted.samples_per_second, "samples/s"))

    def open(self, folder: Path) -> TrainedModel:
        """The trained model."""
        return TrainedModel(folder)


def require_applicable(settings: FitSettings, task: str) -> None:
    """Raise WiringError, naming the key, for a setting that means nothing to the task."""
    vocabulary = TASKS[task]
    asked = (
        ("label_smoothing", settings.label_smoothing > 0, vocabulary.has_classes, "classes"),
        ("class_weights", settings.class_weights is not None, vocabulary.has_labels, "one class for every sample"),
        ("augment", settings.augment is not None, vocabulary.has_images, "images"),
    )
    for key, is_asked, applies, needed in asked:
        if is_asked and not applies:
            raise WiringError(key, f"it needs {needed}, and {task} has none; take it out")


def _watched_figures(fitted: "Fitted", watched: Sequence[tuple[str, Direction]]) -> tuple[Figure, ...]:
    record = fitted.history[fitted.kept_epoch - 1]
    if record.validation[0] is None:
        raise Diverged(f"the loss on the validation split is no number at the epoch that was kept, {record.epoch}")
    return tuple(
        Figure(f"validation_{name}", Kind.METRIC, nan if value is None else value, better=better)
        for (name, better), value in zip(watched, record.validation, strict=True)
    )
