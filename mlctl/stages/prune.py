"""prune: a trained model becomes a smaller one, and is compared with what it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.networks import CnnSettings, MlpSettings
from mlctl.recipe.prune import PruneCommon, StructuredPruning
from mlctl.recipe.train import TrainSettings
from mlctl.recipe.vocabulary import TASKS, TaskVocabulary
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.prune_figures import prune_promises
from mlctl.stages.train import require_applicable, require_room
from mlctl.stages.wiring import Above, WiringError, require_all

ROUNDING = 1e-9
"""What a share of units may be off by: (1 - 0.9) x 5 is less than a half in float64."""


class Prune(Stage[TrainedModel]):
    """A trained model in, a smaller one out."""

    name = "prune"
    revision = 1

    def __init__(
        self,
        settings: PruneCommon,
        model: Step[TrainedModel],
        data: Step[Data],
        vocabulary: TaskVocabulary,
        above: Above,
    ) -> None:
        self._settings = settings
        self._model = model
        self._data = data
        self._vocabulary = vocabulary
        self._seed = above.seed
        self._base = above.base
        self._title = above.recipe.name, above.name

    @classmethod
    def wired(cls, settings: PruneCommon, above: Above) -> "Prune":
        """The stage as a recipe asks for it."""
        model = above.trained(settings.from_)
        data = above.data_of(model)
        finetune, task = settings.finetune, above.task(data)
        require_all(
            lambda: require_applicable(finetune, task, "finetune.") if finetune else None,
            lambda: require_room(finetune, data, above, "finetune.") if finetune else None,
            lambda: _require_units(settings, model, above) if isinstance(settings, StructuredPruning) else None,
        )
        return cls(settings, model, data, TASKS[above.task(data)], above)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, and the seed of everything random."""
        return {**self._settings.deciding("from_"), "seed": self._seed}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The model, and the data that it learnt from."""
        return {"model": self._model, "data": self._data}

    @property
    def is_reproducible(self) -> bool:
        """Not where a measured latency says how much is cut."""
        return getattr(self._settings, "latency", None) is None

    def promises(self) -> tuple[Promise, ...]:
        """The watched figures on the validation split before, as cut and now; size, work and speed before and now."""
        is_cut_at_once = not getattr(self._settings, "gradual", False)
        return tuple(prune_promises(self._vocabulary, is_cut_at_once=is_cut_at_once))

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Cut, let the network learn again, as often as asked, and measure."""
        from mlctl.stages.learning import Lesson
        from mlctl.stages.pruning import Pruning

        finetune = self._settings.finetune
        recipe, step = self._title
        lesson = Lesson(finetune, self.settings(), self._seed, recipe, step, self._base) if finetune else None
        model, data = work.artifact(self._model), work.artifact(self._data)
        return Pruning(self._settings, lesson, self._seed, model, data, work).figures()

    def open(self, folder: Path) -> TrainedModel:
        """The smaller model."""
        return TrainedModel(folder)


def _require_units(settings: StructuredPruning, model: Step[Any], above: Above) -> None:
    """Raise WiringError where the recipe alone tells that there is nothing to cut, or nothing would be left."""
    trained = above.recipe.step(model.name).settings
    network = trained.model if isinstance(trained, TrainSettings) else None
    if network is not None and network.arch == "linear":
        raise WiringError("method", "one linear layer has no units that could be removed; `unstructured` can")
    if settings.scope != "layer" or settings.ratio is None or settings.protect:
        return
    widths = {CnnSettings: "channels", MlpSettings: "hidden"}
    key = widths.get(type(network)) if network is not None else None
    for width in getattr(network, key) if key else ():
        # Half a unit and more is one, as where units are chosen.
        if width * (1 - settings.ratio) < 0.5 - ROUNDING:
            raise WiringError("ratio", f"{settings.ratio:g} would leave nothing of a layer of {width} {key}")
