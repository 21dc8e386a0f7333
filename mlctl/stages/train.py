"""train: a network learns from prepared data."""

from collections.abc import Mapping
from pathlib import Path

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.models.code_file import code_files
from mlctl.models.image_room import network_misfit
from mlctl.recipe.networks import CustomSettings, NetworkSettings
from mlctl.recipe.train import FitSettings, TrainSettings
from mlctl.recipe.vocabulary import TASKS, TaskVocabulary
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.trained_files import finished_training, training_promises
from mlctl.stages.wiring import Above, WiringError, require_all
from mlctl.training.augment_room import augment_misfits


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
        require_all(
            lambda: require_network(settings.model, data, above),
            lambda: require_applicable(settings, above.task(data)),
            lambda: require_room(settings, data, above),
        )
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
        return training_promises(self._vocabulary)

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Train, and write the model, its history and its card."""
        from mlctl.data.prepared import PreparedData
        from mlctl.stages.learning import Lesson, begun, taught
        from mlctl.tasks.table import TASKS as TASK_TABLE
        from mlctl.training.trained import model_config

        folder = work.artifact(self._data).folder
        data = PreparedData.open(folder)
        config = model_config(TASK_TABLE[data.description.task], self._settings.model, data.description)
        recipe, step = self._title
        lesson = Lesson(self._settings, self.settings(), self._seed, recipe, step, self._base)
        trained = config, begun(config, self._seed, work)
        fitted = taught(lesson, trained, data, work, resume=work.resume)
        return finished_training(trained, fitted, data, folder, work)

    def open(self, folder: Path) -> TrainedModel:
        """The trained model."""
        return TrainedModel(folder)


def require_network(network: NetworkSettings, data: Step[Data], above: Above) -> None:
    """Raise WiringError for a network that cannot take the data's inputs, and for data that nothing can learn from."""
    fitting = TASKS[above.task(data)].networks
    if not fitting:
        raise WiringError(None, f"there is nothing to learn from: {data.name} holds data for {above.task(data)}")
    if not isinstance(network, CustomSettings) and network.arch not in fitting:
        raise WiringError(
            "model", f"{network.arch} takes no inputs of {above.task(data)}; choose {' or '.join(fitting)}"
        )
    size = above.image_size(data)
    if found := size and network_misfit(network, *size):
        raise WiringError(f"model.{found.key}", f"{found.what}; {found.next}")


def require_applicable(settings: FitSettings, task: str, path: str = "") -> None:
    """Raise WiringError, naming the key, which `path` leads to, for a setting that means nothing to the task."""
    vocabulary = TASKS[task]
    asked = (
        ("label_smoothing", settings.label_smoothing > 0, vocabulary.has_classes, "classes"),
        ("class_weights", settings.class_weights is not None, vocabulary.has_labels, "one class for every sample"),
        ("augment", settings.augment is not None, vocabulary.has_images, "images"),
    )
    for key, is_asked, applies, needed in asked:
        if is_asked and not applies:
            raise WiringError(f"{path}{key}", f"it needs {needed}, and {task} has none; take it out")


def require_room(settings: FitSettings, data: Step[Data], above: Above, path: str = "") -> None:
    """Raise WiringError, naming each key, which `path` leads to, where the data's images are too small to be changed so
    far."""
    size = above.image_size(data)
    if settings.augment is None or size is None:
        return
    found = [WiringError(f"{path}augment.{each.key}", each.what) for each in augment_misfits(settings.augment, *size)]
    if found:
        raise WiringError(found[0].key, str(found[0]), found[1:])
