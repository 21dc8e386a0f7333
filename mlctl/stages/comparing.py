"""Several models on the same held-out rows: what each is worth, and how it differs from the first."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.engine.verdict import Outcome, StepResult
from mlctl.errors import DataError
from mlctl.events import StepFinished, StepStarted, Tell
from mlctl.graphs.example_inputs import GraphInputs
from mlctl.metrics.agreement import ClassChange, class_changes
from mlctl.metrics.evaluation_files import EvaluationFiles
from mlctl.recipe.evaluate import EvalSettings
from mlctl.recipe.vocabulary import TASKS as VOCABULARY
from mlctl.runtime.answers import first_rows
from mlctl.stages.artifacts import Data, Model, OnnxModel, TrainedModel
from mlctl.stages.evaluated_models import EvaluatedModels
from mlctl.stages.forms import NAME_THE_DATA, Form, code_folder
from mlctl.stages.measuring import Asked, Measuring
from mlctl.stages.parent_speed import FASTER
from mlctl.tasks.pairing import metric_difference
from mlctl.tasks.table import TASKS

STEP = "compare"
LOOKED_AT = 8
"""Rows whose answers tell whether a graph is complete."""


@dataclass(frozen=True)
class NamedGraph(OnnxModel):
    """An ONNX file of any name."""

    file: Path

    @property
    def graph(self) -> Path:
        """The file."""
        return self.file


@dataclass(frozen=True)
class Comparison:
    """What a comparison came to: figures of every model, and the classes of each but the first, greatest loss first."""

    result: StepResult
    labels: tuple[str, ...]
    changes: Mapping[str, tuple[ClassChange, ...]]


@dataclass(frozen=True)
class Place:
    """Where models are run: device and threads, as a run's options have them, and whether users' code may run."""

    device: str
    threads: int
    allows_code: bool


def compare(forms: Mapping[str, Form], data: Path, settings: EvalSettings, place: Place, tell: Tell) -> Comparison:
    """Run the models, by name, on a split of the prepared data in the folder `data`, and set them against the first.

    Nothing is kept but what is returned. Raises DataError for a model that does not fit the data, and what running the
    models raises.
    """
    began = monotonic()
    tell(StepStarted(STEP, "run", ()))
    with TemporaryDirectory(prefix="mlctl-compare-") as folder:
        work = Work(
            Path(folder), Path(folder), "", place.device, place.threads, {}, _code(forms, place), tell, {}, {}, {}
        )
        models = {name: _model(each) for name, each in forms.items()}
        prepared = PreparedData.open(data)
        _require_fit(forms, models, prepared, settings, work)
        figures = _figures(models, data, settings, work)
        extra, changes = _against_first(prepared, Path(folder), settings)
    elapsed = monotonic() - began
    tell(StepFinished(STEP, elapsed))
    result = StepResult(STEP, STEP, Outcome.RAN, "", None, elapsed, (), (*figures, *extra), work.choices)
    return Comparison(result, prepared.description.labels, changes)


def _code(forms: Mapping[str, Form], place: Place) -> Path | None:
    trained = [each for each in forms.values() if each.framework == "torch"]
    return code_folder(trained[0]) if trained and place.allows_code else None


def _model(form: Form) -> Model:
    return NamedGraph(form.folder, form.file) if form.framework == "onnx" else TrainedModel(form.folder)


def _require_fit(
    forms: Mapping[str, Form], models: Mapping[str, Model], prepared: PreparedData, settings: EvalSettings, work: Work
) -> None:
    """Raise DataError for a graph that takes other inputs than the data holds, or lacks the task's ending."""
    rows = prepared.split(settings.split).inputs
    opened = EvaluatedModels(models, settings, replace(work, choices={}), prepared.description, rows)
    task = TASKS[prepared.description.task]
    for name, form in forms.items():
        if form.framework != "onnx":
            continue
        misfit = GraphInputs.of(form.file).misfit(rows)
        if misfit:
            raise DataError(misfit, where=form.named, next=NAME_THE_DATA)
        answers = opened.open(name, work.threads)(first_rows(rows, min(LOOKED_AT, len(rows[0]))))
        ending = task.ending(answers, prepared.description.labels)
        if ending:
            raise DataError(
                f"the graph lacks the {ending} at its end that makes its answers those of {task.name}",
                where=form.named,
                next="let `mlctl export --from FILE --data RECIPE` put it there, and compare what that makes",
            )


def _figures(models: Mapping[str, Model], data: Path, settings: EvalSettings, work: Work) -> tuple[Figure, ...]:
    """What eval measures, with every model's speed beside the first one's."""
    vocabulary = VOCABULARY[PreparedData.open(data).description.task]
    first, *others = models
    metrics = tuple(dict.fromkeys((*vocabulary.default, vocabulary.main)))
    asked = Asked(settings, metrics, vocabulary.main, dict.fromkeys(others, first))
    found = Measuring(asked, work, Data(data), models).figures()
    return tuple(replace(each, figure="faster_than_first") if each.figure == FASTER else each for each in found)


def _against_first(
    prepared: PreparedData, folder: Path, settings: EvalSettings
) -> tuple[tuple[Figure, ...], dict[str, tuple[ClassChange, ...]]]:
    """How alike every model answered to the first, McNemar's p, and what became of every class."""
    task, vocabulary = TASKS[prepared.description.task], VOCABULARY[prepared.description.task]
    files = EvaluationFiles.open(folder)
    first, *others = files.index.models
    answers, targets = files.answers(first), files.targets
    figures: list[Figure] = []
    changes = {}
    for name in others:
        own = files.answers(name)
        if likeness := task.likeness(answers, own, settings.confidence):
            figures.append(
                Figure(
                    likeness.name,
                    Kind.METRIC,
                    likeness.value,
                    model=name,
                    low=likeness.low,
                    high=likeness.high,
                    confidence=settings.confidence,
                )
            )
        test = metric_difference(task, vocabulary.main, (own, answers), targets, settings.confidence).test
        if test:
            figures.append(Figure("mcnemar_p", Kind.METRIC, test.p_value, model=name))
        if vocabulary.has_labels:
            right = [task.right(vocabulary.main, each, targets) for each in (answers, own)]
            assert right[0] is not None
            assert right[1] is not None
            changes[name] = class_changes(right[0], right[1], targets, settings.confidence)
    return tuple(figures), changes


def losses(comparison: Comparison, most: int) -> Iterator[tuple[str, str, ClassChange]]:
    """Model, label and change of the classes that lost most, at most so many of each model."""
    for name, changes in comparison.changes.items():
        lost = [each for each in changes if each.second < each.first]
        for each in lost[:most]:
            yield name, comparison.labels[each.number], each
