"""train: a network learns from prepared data."""

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.digests import Json
from mlctl.engine.figures import Direction, Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.errors import Diverged
from mlctl.events import Note
from mlctl.models.code_file import code_files
from mlctl.recipe.networks import CustomSettings
from mlctl.recipe.train import TrainSettings
from mlctl.recipe.vocabulary import TASKS, TaskVocabulary
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.wiring import Above, WiringError

if TYPE_CHECKING:
    from mlctl.data.prepared import PreparedData
    from mlctl.models.complete import CompleteModel
    from mlctl.models.files import ModelConfig
    from mlctl.training.loop import Fitted

HISTORY = "metrics.jsonl"
CARD = "README.md"


class Train(Stage[TrainedModel]):
    """Prepared data in, a trained model out."""

    name = "train"
    revision = 1

    def __init__(
        self, settings: TrainSettings, seed: int, data: Step[Data], vocabulary: TaskVocabulary, base: Path
    ) -> None:
        self._settings = settings
        self._seed = seed
        self._data = data
        self._base = base
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
        return cls(settings, above.seed, data, TASKS[above.task(data)], above.base)

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
        from mlctl.tasks.table import TASKS as TASK_TABLE
        from mlctl.training.own_networks import require_restorable
        from mlctl.training.trained import model_config, parameter_count

        data = PreparedData.open(work.artifact(self._data).folder)
        config = model_config(TASK_TABLE[data.description.task], self._settings.model, data.description)
        model, fitted = self._fitted(config, data, work)
        save_model(work.folder, config, model.network, work.fingerprint)
        require_restorable(model, config, work.folder, data.split("train").inputs, work.code)
        (work.folder / HISTORY).write_text(fitted.metrics_jsonl)
        figures = (
            *_watched_figures(fitted, TASK_TABLE[config.task].objective(data.description).watched),
            Figure("epochs", Kind.METRIC, len(fitted.history)),
            Figure("kept_epoch", Kind.METRIC, fitted.kept_epoch),
            Figure("parameters", Kind.SIZE, parameter_count(model.network)),
            Figure("bytes", Kind.SIZE, (work.folder / WEIGHTS_FILE).stat().st_size, "bytes"),
        )
        (work.folder / CARD).write_text(model_card(config, data.description, figures), encoding="utf-8")
        return (*figures, Figure("samples_per_second", Kind.LATENCY, fitted.samples_per_second, "samples/s"))

    def _fitted(self, config: "ModelConfig", data: "PreparedData", work: Work) -> "tuple[CompleteModel, Fitted]":
        from mlctl.tasks.table import TASKS as TASK_TABLE
        from mlctl.training.batches import Samples
        from mlctl.training.devices import resolve_device
        from mlctl.training.failures import named_failures
        from mlctl.training.loop import fit
        from mlctl.training.own_networks import named_mistakes, require_answers
        from mlctl.training.trained import fresh_model, use_threads

        use_threads(work.threads)
        device = resolve_device(work.device)
        train, validation = data.split("train"), data.split("validation")
        with named_failures(device):
            model = fresh_model(config, self._seed, work.code)
        require_answers(model, config, train.inputs)
        with named_mistakes(config):
            fitted = fit(
                model,
                Samples(train.inputs, train.targets),
                Samples(validation.inputs, validation.targets),
                TASK_TABLE[config.task].objective(data.description),
                self._settings,
                seed=self._seed,
                device=device,
                resume=work.resume,
                tell=work.tell,
            )
        if fitted.stopped_early:
            work.tell(Note(f"stopped early after epoch {len(fitted.history)} of {self._settings.epochs}"))
        work.choices["device"] = str(device)
        work.choices["precision"] = f"{fitted.precision.precision}: {fitted.precision.reason}"
        return model, fitted

    def open(self, folder: Path) -> TrainedModel:
        """The trained model."""
        return TrainedModel(folder)


def _watched_figures(fitted: "Fitted", watched: Sequence[tuple[str, Direction]]) -> tuple[Figure, ...]:
    record = fitted.history[fitted.kept_epoch - 1]
    if record.validation[0] is None:
        raise Diverged(f"the loss on the validation split is no number at the epoch that was kept, {record.epoch}")
    return tuple(
        Figure(f"validation_{name}", Kind.METRIC, nan if value is None else value, better=better)
        for (name, better), value in zip(watched, record.validation, strict=True)
    )
