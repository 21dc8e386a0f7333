"""quantize: a float graph becomes one of small integers or halves, and is compared with it."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mlctl.compression.quantization.scheme import Scheme, Wish, choose_scheme
from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.quantize import AwareQuantization, QuantizeCommon
from mlctl.recipe.vocabulary import TASKS
from mlctl.runtime.machine import this_processor
from mlctl.stages.artifacts import Data, OnnxModel
from mlctl.stages.tokenizer import keep_tokenizer
from mlctl.stages.train import require_applicable, require_room
from mlctl.stages.wiring import Above, WiringError, require_all


class Quantize(Stage[OnnxModel]):
    """A graph with float weights in, one with integers out."""

    name = "quantize"
    revision = 2

    def __init__(self, settings: QuantizeCommon, model: Step[OnnxModel], data: Step[Data], seed: int) -> None:
        self._settings = settings
        self._model = model
        self._data = data
        self._seed = seed

    @classmethod
    def wired(cls, settings: QuantizeCommon, above: Above) -> "Quantize":
        """The stage as a recipe asks for it."""
        model = above.exported(settings.from_)
        if isinstance(settings, AwareQuantization):
            return AwareQuantize(settings, model, above.data_of(model), above)
        return cls(settings, model, above.data_of(model), above.seed)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, the types that they come to on this machine, and the seed that picks rows."""
        scheme = {name: value for name, value in asdict(self._scheme()).items() if name != "why"}
        return {**self._settings.deciding("from_"), "scheme": scheme, "seed": self._seed}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The graph, and the data that it learnt from."""
        return {"model": self._model, "data": self._data}

    def promises(self) -> tuple[Promise, ...]:
        """What integers cost and gain."""
        return (
            *_promised(Kind.METRIC, "drop"),
            *_promised(Kind.PARITY, "agreement", "signal_to_noise"),
            *_promised(Kind.LATENCY, "faster_than_parent"),
            *_promised(Kind.SIZE, "quantized_nodes", "kept_nodes", "nodes", "bytes"),
        )

    def conditions(self) -> tuple[str, ...]:
        """The loss stays within what the recipe allows."""
        return () if self._settings.max_drop is None else (f"drop <= {self._settings.max_drop!r}",)

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Calibrate, write integers, give nodes back to float where the loss asks for it, and measure."""
        from mlctl.stages.quantizing import Quantizing

        model, data = work.artifact(self._model), work.artifact(self._data)
        keep_tokenizer(model.folder, work.folder)
        return Quantizing(self._settings, self._scheme(), self._seed, model, data, work).figures()

    def open(self, folder: Path) -> OnnxModel:
        """The graph."""
        return OnnxModel(folder)

    def _scheme(self) -> Scheme:
        activations: Wish = getattr(self._settings, "activations", "auto")
        weights: Wish = getattr(self._settings, "weights", "auto")
        return choose_scheme(activations, weights, this_processor().instruction_sets)


class AwareQuantize(Quantize):
    """A graph with float weights in; one with integers out that has learnt since they became so."""

    def __init__(self, settings: AwareQuantization, model: Step[OnnxModel], data: Step[Data], above: Above) -> None:
        """Raises WiringError where there is nothing to learn from, or a setting means nothing to the task."""
        super().__init__(settings, model, data, above.seed)
        task = above.task(data)
        if not TASKS[task].networks:
            raise WiringError("method", f"there is nothing to learn from: {data.name} holds data for {task}")
        require_all(lambda: require_applicable(settings, task), lambda: require_room(settings, data, above))
        self._aware = settings
        self._base = above.base
        self._title = above.recipe.name, above.name

    def promises(self) -> tuple[Promise, ...]:
        """What integers cost and gain, and how far the graph is from what was trained."""
        return (
            *super().promises(),
            *_promised(Kind.METRIC, "static_drop"),
            *_promised(Kind.PARITY, "parity", "parity_agreement", "max_absolute"),
            *_promised(Kind.METRIC, "epochs", "kept_epoch"),
            *_promised(Kind.LATENCY, "samples_per_second"),
        )

    def conditions(self) -> tuple[str, ...]:
        """The loss stays within what the recipe allows, and the graph answers as what was trained."""
        return (*super().conditions(), f"parity <= {self._aware.tolerance!r}")

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Calibrate, train with the rounding in the loop, write integers, and measure."""
        from mlctl.stages.quantizing_aware import AwareLesson, AwareQuantizing

        model, data = work.artifact(self._model), work.artifact(self._data)
        keep_tokenizer(model.folder, work.folder)
        recipe, step = self._title
        lesson = AwareLesson(self._aware, self.settings(), self._seed, recipe, step, self._base)
        return AwareQuantizing(lesson, self._scheme(), model, data, work).figures()


def _promised(kind: Kind, *names: str) -> Iterator[Promise]:
    return (Promise(each, kind) for each in names)
