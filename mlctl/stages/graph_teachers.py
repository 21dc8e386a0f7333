"""Opens an ONNX file as a teacher: looks at what it says of itself, and tries what it does not say."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.compression.distillation.host_teacher import HostTeacher, unfinished
from mlctl.compression.distillation.teacher_figures import teacher_figures
from mlctl.data.description import DataDescription
from mlctl.data.prepared import PreparedData
from mlctl.digests import file_digest
from mlctl.engine.stage import Work
from mlctl.errors import DataError, StepFailed
from mlctl.graphs.checking import check_graph
from mlctl.graphs.external_files import model_files
from mlctl.graphs.fitting import FLOATS, ForeignInput, RawInput, answer_name, fixed_batch, matched
from mlctl.graphs.foreign_model import ForeignModel
from mlctl.graphs.inspection import graph_files
from mlctl.graphs.metadata import PREFIX, GraphMetadata
from mlctl.graphs.properties import read_properties
from mlctl.runtime.answers import Model, answer, first_rows
from mlctl.stages.adopting import raw_inputs
from mlctl.stages.teacher_metrics import LOSSES
from mlctl.tasks.table import TASKS
from mlctl.training.devices import resolve_device

if TYPE_CHECKING:
    import onnx

TRIED_ROWS = 512
"""Rows of the validation split that tell what kind of answer a teacher gives, and how it wants its inputs."""
TRIED_BATCH = 32
GOOD_ENOUGH = 0.1
"""Share of the loss of a classifier that knows nothing, log(classes): one below it is right nearly always."""
NEXT = "choose a teacher that learnt the same classes in the same order"


def graph_teacher(path: Path, data: PreparedData, work: Work) -> HostTeacher:
    """The ONNX file as a teacher of raw rows.

    Files of mlctl's own take raw rows and say what they are for. Of others, inputs of whole numbers take raw rows;
    those of floating-point numbers may want them raw or scaled as the data's description has it: what gives the better
    answers to held-out rows is taken, and noted. Raises DataError for a file that is not to be trusted, or does not fit
    the data.
    """
    description = data.description
    model = check_graph(path)
    _require_planned(path, model)
    answers = answer_name(model, path)
    plain = matched(model, [unscaled(each) for each in raw_inputs(description)], path)
    is_own = f"{PREFIX}task" in read_properties(model)
    if is_own:
        _require_same(GraphMetadata.from_properties(read_properties(model), where=path), description, path)
    feeds = {"raw": plain} if is_own else {"scaled": scaled(plain, description), "raw": plain}
    identity = file_digest(path)
    teachers = {
        name: opened(_foreign(path, inputs, answers, data, work), data, lambda: identity, path)
        for name, inputs in feeds.items()
        if name == "raw" or inputs != plain
    }
    return chosen(teachers, data, work)


def opened(model: Model, data: PreparedData, identity: Callable[[], str], where: object) -> HostTeacher:
    """The model of raw rows as a teacher, by the kind of answers that it gives to held-out rows.

    `identity` is asked after the first answer. Raises DataError, naming `where`, for answers that cannot be the task's.
    """
    description = data.description
    rows = tuple(each[:TRIED_ROWS] for each in data.split("validation").inputs)
    if description.vocabulary:
        rows = first_rows(rows, 1)
    tried = answer(model, rows, TRIED_BATCH)
    if description.vocabulary and tried.shape[1:] != (*description.target.shape, description.vocabulary):
        wanted = [*description.target.shape, description.vocabulary]
        what = f"the teacher answers a window with the shape {list(tried.shape[1:])}, the data wants {wanted}"
        raise DataError(what, where=where, next="choose a teacher that learnt the same tokens")
    try:
        ending = TASKS[description.task].ending(tried, description.labels)
    except DataError as error:
        raise DataError(f"as a teacher: {error.what}", where=where, next=error.next) from error
    dtypes = [field.dtype for field in description.inputs]
    return HostTeacher(model, dtypes, unfinished(description, ending), identity())


def chosen(teachers: Mapping[str, HostTeacher], data: PreparedData, work: Work) -> HostTeacher:
    """Of a teacher whose inputs may be raw or scaled, the way that gives the lower loss on held-out rows.

    A classifier that answers scaled inputs rightly is taken at that: numbers that are too large for it may only make it
    surer of the same answers, and so its loss lower.
    """
    if len(teachers) == 1:
        (only,) = teachers.values()
        return only
    metric = LOSSES[data.description.task]
    cpu = resolve_device("cpu")
    losses = {
        name: teacher_figures(each, data, (metric,), cpu, most=TRIED_ROWS)[0].value for name, each in teachers.items()
    }
    enough = GOOD_ENOUGH * log(len(data.description.labels)) if data.description.labels else 0.0
    best = "scaled" if losses["scaled"] <= max(losses["raw"], enough) else "raw"
    told = ", ".join(f"{loss:.4g} {name}" for name, loss in losses.items())
    work.choices["teacher_inputs"] = f"{best}: {metric} on held-out rows {told}"
    return teachers[best]


def unscaled(given: RawInput) -> RawInput:
    """The input with nothing left to scale."""
    return replace(given, scale=1.0, mean=(), deviation=())


def scaled(plain: Sequence[ForeignInput], description: DataDescription) -> tuple[ForeignInput, ...]:
    """The inputs with those of floating-point numbers scaled as the data's description has it."""
    pairs = zip(plain, raw_inputs(description), strict=True)
    return tuple(replace(each, raw=raw) if each.dtype in FLOATS else each for each, raw in pairs)


def _foreign(path: Path, inputs: Sequence[ForeignInput], answers: str, data: PreparedData, work: Work) -> ForeignModel:
    """The file as a model; asked row by row where it says that it takes any number of rows, and does not."""
    batch = fixed_batch(inputs)
    foreign = ForeignModel(path, inputs, answers, threads=work.threads, batch=batch)
    try:
        foreign(first_rows(data.split("validation").inputs, 2))
    except StepFailed:
        if batch is not None:
            raise
        foreign.batch = 1
    return foreign


def _require_planned(path: Path, model: "onnx.ModelProto") -> None:
    """Raise DataError for external data that the plan did not see."""
    seen = {each.resolve() for each in model_files(path)}
    unseen = [each for each in graph_files(path, model) if each.resolve() not in seen]
    if unseen:
        what = f"external data {unseen[0].name!r} is named in a way that was not understood"
        raise DataError(what, where=path, next="write the model anew with `onnx.save_model`")


def _require_same(metadata: GraphMetadata, description: DataDescription, path: Path) -> None:
    """Raise DataError where a graph of mlctl's own is for another task, or for other classes."""
    if metadata.task != description.task:
        what = f"the teacher is for {metadata.task}, the data is for {description.task}"
        raise DataError(what, where=path, next="choose a teacher that learnt the same task")
    if metadata.labels == description.labels:
        return
    if sorted(metadata.labels) == sorted(description.labels):
        what = f"the teacher learnt the same classes in another order: {_listed(metadata.labels)}, and the data has "
        raise DataError(what + _listed(description.labels), where=path, next=NEXT)
    what = f"the teacher learnt the classes {_listed(metadata.labels)}, the data has {_listed(description.labels)}"
    raise DataError(what, where=path, next=NEXT)


def _listed(labels: Sequence[Any]) -> str:
    shown = ", ".join(map(repr, labels[:5]))
    return shown if len(labels) <= 5 else f"{shown} and {len(labels) - 5} more"
