"""The work of quantization-aware training: the static graph learns, and is written back and measured."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

from mlctl.compression.pruning.zeros_that_stay import zeros_that_stay
from mlctl.compression.quantization.aware import AwareModel, Distance, aware_model, distance
from mlctl.compression.quantization.aware_weights import AwareWeights
from mlctl.compression.quantization.fallback import Kept
from mlctl.compression.quantization.quantizer import Quantizer
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.tied_heads import store_turned
from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.events import Note, Warned
from mlctl.graphs.outline import weightless
from mlctl.graphs.saving import load_graph
from mlctl.graphs.torch_graph import require_gradients
from mlctl.recipe.quantize import AwareQuantization
from mlctl.runtime.answers import first_rows, in_batches, rows_at_once
from mlctl.stages.artifacts import Data, OnnxModel
from mlctl.stages.learning import Lesson, trackers_of
from mlctl.stages.quantizing import Quantizing
from mlctl.tasks.table import TASKS
from mlctl.training.batches import Samples
from mlctl.training.loop import Fitted, fit
from mlctl.training.processes import device_at
from mlctl.training.targets import require_learnable
from mlctl.training.trained import as_callable, use_threads

if TYPE_CHECKING:
    from onnx import ModelProto

HISTORY = "metrics.jsonl"
ANSWER_BATCH = 64
EXAMPLE_ROWS = 2


@dataclass(frozen=True)
class AwareLesson(Lesson):
    """The lesson of a graph that knows its rounding."""

    settings: AwareQuantization


class AwareQuantizing(Quantizing):
    """One quantization whose graph learns, from the float graph to the step's folder."""

    def __init__(self, lesson: AwareLesson, scheme: Scheme, model: OnnxModel, data: Data, work: Work) -> None:
        super().__init__(lesson.settings, scheme, lesson.seed, model, data, work)
        self._lesson = lesson
        self._data = PreparedData.open(data.folder)
        self._task = TASKS[self._data.description.task]
        self._fitted: Fitted | None = None
        self._distance: Distance | None = None
        self._static_drop = nan

    def figures(self) -> tuple[Figure, ...]:
        """Train, write the graph and the reports, and return what integers cost and gain."""
        use_threads(self._work.threads)
        # Before a calibration that may take long.
        require_gradients(weightless(self._parent))
        return (*super().figures(), *self._own_figures())

    def _kept(self, quantizer: Quantizer) -> Kept:
        """Nothing goes back to float: what a drop needs mended, training mends."""
        written = quantizer.quantized()
        original = load_graph(self._parent)
        store_turned(original)
        weights = AwareWeights(written, original, self._making.scheme.has_reduced_range)
        finish = self._task.finish(self._data.description.target_scaling)
        model = aware_model(written, weights, finish, first_rows(self._rows, EXAMPLE_ROWS))
        self._static_drop = self._judge.drop(written)
        self._fitted = self._learn(model)
        trained = weights.written(written)
        self._distance = self._measured(model, trained)
        drop = self._judge.drop(trained)
        if drop > self._static_drop:
            what = f"training has not helped: {drop:.4g} of the main metric is lost, {self._static_drop:.4g} before it"
            self._work.tell(Warned(f"{what}; lower the learning rate, or quantize with `method: static`"))
        most = self._settings.max_drop
        return Kept(trained, (), drop, 1, is_met=most is None or drop <= most)

    def _learn(self, model: AwareModel) -> Fitted:
        lesson, work = self._lesson, self._work
        with trackers_of(lesson, work, work.resume) as trackers:
            fitted = fit(
                model,
                self._samples("train"),
                self._samples("validation"),
                self._task.objective(self._data, lesson.settings),
                lesson.settings,
                seed=lesson.seed,
                device=device_at(work.device, None),
                resume=work.resume,
                tell=work.tell,
                trackers=trackers,
                after_step=zeros_that_stay(model.parameters()),
            )
        if fitted.stopped_early:
            work.tell(Note(f"stopped early after epoch {len(fitted.history)} of {lesson.settings.epochs}"))
        work.choices.update({each.about: each.text for each in fitted.choices})
        (work.folder / HISTORY).write_text(fitted.metrics_jsonl)
        return fitted

    def _samples(self, name: str) -> Samples:
        split = self._data.split(name)
        samples = Samples(split.inputs, split.targets, split.rows, split.stream)
        require_learnable(samples, self._task.outputs(self._data.description), name)
        return samples

    def _measured(self, model: AwareModel, trained: "ModelProto") -> Distance:
        """On the validation split, both on the host, as the graph will be served."""
        reference = as_callable(model, device_at("cpu", None))
        session = self._session(trained)
        size = rows_at_once(session, self._rows, ANSWER_BATCH)
        both = (in_batches(each, self._rows, size) for each in (reference, session))
        pairs = ((expected, given) for (_, expected), (_, given) in zip(*both, strict=True))
        return distance(pairs, self._task.decision)

    def _own_figures(self) -> Iterator[Figure]:
        fitted, found = self._fitted, self._distance
        assert fitted is not None
        assert found is not None
        yield Figure("static_drop", Kind.METRIC, self._static_drop, better="lower")
        yield Figure("parity", Kind.PARITY, found.share, better="lower")
        yield Figure("parity_agreement", Kind.PARITY, found.agreement, better="higher")
        yield Figure("max_absolute", Kind.PARITY, found.largest, better="lower")
        yield Figure("epochs", Kind.METRIC, len(fitted.history))
        yield Figure("kept_epoch", Kind.METRIC, fitted.kept_epoch)
        yield Figure("samples_per_second", Kind.LATENCY, fitted.samples_per_second, "samples/s")
