"""eval: every model is run on the same held-out rows, by the same harness."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.evaluate import EvalSettings
from mlctl.recipe.vocabulary import TASKS, TaskVocabulary
from mlctl.stages.artifacts import Data, Evaluation, Model, OnnxModel
from mlctl.stages.wiring import Above, WiringError, makes

PERCENTILES = ("p50", "p95", "p99")


class Evaluate(Stage[Evaluation]):
    """Models and prepared data in, answers and figures out."""

    name = "eval"
    revision = 2

    def __init__(
        self, settings: EvalSettings, models: tuple[Step[Model], ...], data: Step[Data], vocabulary: TaskVocabulary
    ) -> None:
        self._settings = settings
        self._models = models
        self._data = data
        self._main = vocabulary.main
        self._metrics = tuple(dict.fromkeys((*(settings.metrics or vocabulary.default), vocabulary.main)))

    @classmethod
    def wired(cls, settings: EvalSettings, above: Above) -> "Evaluate":
        """The stage as a recipe asks for it."""
        models = above.models()
        data = above.data(settings.data)
        task = above.task(data)
        for model in models:
            learnt = above.task(above.data_of(model))
            if learnt != task:
                raise WiringError("data", f"{model.name} is for {learnt}, {data.name} holds data for {task}")
        return cls(settings, models, data, TASKS[task])

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, with the metrics named, what is compared with what, and the models' order."""
        models = tuple(model.name for model in self._models)
        named = {"metrics": self._metrics, "models": models, "parents": self.parents()}
        return {**self._settings.deciding("data"), **named}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """Every model under its own name, and the data."""
        return {**{model.name: model for model in self._models}, "data": self._data}

    def promises(self) -> tuple[Promise, ...]:
        """For every model its metrics, size and latency, and its speed beside that of the model it was made from."""
        rows = Promise(f"{self._settings.split}_rows", Kind.SIZE)
        return (rows, *(promise for model in self._models for promise in self._promises_of(model)))

    def _promises_of(self, model: Step[Model]) -> Iterator[Promise]:
        yield from (Promise(name, Kind.METRIC, model.name, is_sampled=True) for name in self._metrics)
        if model is not self._models[0]:
            yield Promise("difference", Kind.METRIC, model.name)
        yield Promise("parameters", Kind.SIZE, model.name)
        yield Promise("bytes", Kind.SIZE, model.name)
        for size in self._settings.latency.batch if self._settings.latency else ():
            for percentile in PERCENTILES:
                yield Promise(f"{percentile}_batch_{size}", Kind.LATENCY, model.name, percentile == "p50")
        if self._settings.latency and model.name in self.parents():
            yield Promise("faster_than_parent", Kind.LATENCY, model.name, is_sampled=True)

    def parents(self) -> Mapping[str, str]:
        """By the name of an ONNX model, the evaluated model that it was made from."""
        names = {model.name for model in self._models}
        made_from = {
            model.name: [step.name for step in model.stage.inputs().values() if step.name in names]
            for model in self._models
            if makes(model, OnnxModel)
        }
        return {name: parents[0] for name, parents in made_from.items() if parents}

    @property
    def is_reproducible(self) -> bool:
        """Not here: latencies are kept."""
        return False

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Answer, judge and time."""
        from mlctl.stages.measuring import Asked, Measuring

        models = {step.name: work.artifact(step) for step in self._models}
        asked = Asked(self._settings, self._metrics, self._main, self.parents())
        return Measuring(asked, work, work.artifact(self._data), models).figures()

    def open(self, folder: Path) -> Evaluation:
        """The answers."""
        return Evaluation(folder)
