"""The work of eval: answers, figures with intervals, and latency in turns."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Direction, Figure, Kind
from mlctl.engine.stage import Work
from mlctl.events import Progress, Warned
from mlctl.graphs.inspection import inspection_of, read_graph
from mlctl.graphs.storage import weight_count
from mlctl.metrics.evaluation_files import ANSWERS_FILE, REPORT_FILE, EvaluationFiles, EvaluationIndex
from mlctl.metrics.resampling import Floats
from mlctl.metrics.speed import faster_than
from mlctl.models.files import WEIGHTS_FILE
from mlctl.recipe.evaluate import EvalSettings, LatencySettings
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.runtime.answers import answer
from mlctl.runtime.latency import measure_latency, summary
from mlctl.stages.artifacts import Data, Model, OnnxModel
from mlctl.stages.evaluated_models import EvaluatedModels
from mlctl.stages.parent_speed import parent_speed
from mlctl.stages.tokenizer import require_same_tokens
from mlctl.tasks.pairing import metric_difference
from mlctl.tasks.table import TASKS
from mlctl.tasks.task import Answers
from mlctl.training.trained import parameter_count, stored_model

ANSWER_BATCH = 256
WARMUP_ROUNDS = 5
BOOTSTRAP_SEED = 0


@dataclass(frozen=True)
class Asked:
    """What an evaluation is to measure: its figures, the main one, and what each ONNX model was made from."""

    settings: EvalSettings
    metrics: tuple[str, ...]
    main: str
    parents: Mapping[str, str]


class Measuring:
    """Runs every model over one split and turns what they answer into figures."""

    def __init__(self, asked: Asked, work: Work, data: Data, models: Mapping[str, Model]) -> None:
        self._settings = asked.settings
        self._metrics = asked.metrics
        self._main = asked.main
        self._parents = asked.parents
        self._work = work
        self._models = models
        self._folder = data.folder
        self._prepared = PreparedData.open(data.folder)
        self._data = self._prepared.description
        self._task = TASKS[self._data.task]
        self._split = self._prepared.split(asked.settings.split)
        self._targets = self._task.kept_targets(self._split.targets)
        self._opened = EvaluatedModels(models, asked.settings, work, self._data, self._split.inputs)

    def figures(self) -> tuple[Figure, ...]:
        """Write what `EvaluationFiles` reads, and return all figures, model by model."""
        latency = self._settings.latency
        index = EvaluationIndex(
            task=self._task.name,
            split=self._settings.split,
            models=tuple(self._models),
            metrics=self._metrics,
            batches=latency.batch if latency else (),
            parents=self._parents,
        )
        index.save(self._work.folder)
        self._files = EvaluationFiles(self._work.folder, index)
        found: dict[str, list[Figure]] = {}
        answers = {}
        for number, name in enumerate(self._models):
            self._work.tell(Progress("models", number, len(self._models), "models", f"answers of {name}"))
            answers[name] = self._answers(name)
            if number == 0 and self._task.judged_against == "first-model":
                self._targets = answers[name]
            found[name] = [*self._metric_figures(name, answers[name]), *self._sizes(name)]
        self._files.save_targets(self._targets)
        first, *others = answers
        for name in others:
            found[name].append(self._difference(name, answers[name], answers[first]))
        if self._settings.latency:
            for figure in self._latencies(self._settings.latency):
                assert figure.model
                found[figure.model].append(figure)
        rows = Figure(f"{self._settings.split}_rows", Kind.SIZE, len(self._targets), "rows")
        return (rows, *(figure for figures in found.values() for figure in figures))

    def _answers(self, name: str) -> Answers:
        require_same_tokens(name, self._models[name].folder, self._folder)
        folder = self._work.folder / name
        folder.mkdir()
        model = self._opened.open(name, self._work.threads)
        found = answer(model, self._split.inputs, ANSWER_BATCH, folder / ANSWERS_FILE, self._kept)
        report = self._task.report(found, self._targets, self._data.labels)
        if report:
            (folder / REPORT_FILE).write_text(report + "\n", encoding="utf-8")
        return found

    def _kept(self, answers: Answers, rows: slice) -> Answers:
        return self._task.kept(answers, self._split.targets[rows], self._prepared)

    def _metric_figures(self, name: str, answers: Answers) -> Iterator[Figure]:
        for each in self._task.measure(self._metrics, answers, self._targets, self._settings.confidence):
            yield Figure(
                each.name,
                Kind.METRIC,
                each.value,
                model=name,
                better=self._better(each.name),
                low=each.low,
                high=each.high,
                confidence=self._settings.confidence,
                main=each.name == self._main,
            )

    def _difference(self, name: str, answers: Answers, first: Answers) -> Figure:
        found = metric_difference(self._task, self._main, (answers, first), self._targets, self._settings.confidence)
        return Figure(
            "difference",
            Kind.METRIC,
            found.estimate,
            model=name,
            low=found.interval.low,
            high=found.interval.high,
            confidence=self._settings.confidence,
        )

    def _sizes(self, name: str) -> tuple[Figure, ...]:
        model = self._models[name]
        if isinstance(model, OnnxModel):
            graph = read_graph(model.graph)
            parameters, size = weight_count(graph), inspection_of(model.graph, graph).bytes
        else:
            parameters = parameter_count(stored_model(model.folder, self._work.code)[1].network)
            size = (model.folder / WEIGHTS_FILE).stat().st_size
        return (
            Figure("parameters", Kind.SIZE, parameters, model=name),
            Figure("bytes", Kind.SIZE, size, "bytes", model=name),
        )

    def _latencies(self, settings: LatencySettings) -> Iterator[Figure]:
        models = [(name, self._opened.open(name, settings.threads)) for name in self._models]
        seconds = measure_latency(
            models,
            self._split.inputs,
            batches=settings.batch,
            rounds=settings.rounds,
            warmup=WARMUP_ROUNDS,
            tell=self._work.tell,
        )
        self._files.save_seconds(seconds)
        for (name, _), of_model in zip(models, seconds, strict=True):
            for size, of_size in zip(settings.batch, of_model, strict=True):
                found = summary(of_size)
                for percentile, value in (("p50", found.p50), ("p95", found.p95), ("p99", found.p99)):
                    yield Figure(f"{percentile}_batch_{size}", Kind.LATENCY, value, "ms", name, better="lower")
        by_name = dict(zip(self._models, seconds, strict=True))
        for name, parent in self._parents.items():
            yield self._faster(name, parent, by_name, settings.batch)

    def _faster(self, name: str, parent: str, seconds: Mapping[str, Floats], batches: tuple[int, ...]) -> Figure:
        """How much faster a model is than its parent; where it is certainly slower, a person is told."""
        confidence = self._settings.confidence
        found = faster_than(seconds[parent], seconds[name], confidence=confidence, seed=BOOTSTRAP_SEED)
        if found.interval.high < 1:
            warning = f"{name} is slower than {parent}: x {found.ratio:.2f} at batch {batches[found.column]}"
            self._work.choices[f"slower[{name}]"] = warning
            self._work.tell(Warned(warning))
        return parent_speed(found, confidence, name)

    def _better(self, metric: str) -> Direction:
        known = VOCABULARY[self._task.name].metrics
        return known.get(metric, "higher")
