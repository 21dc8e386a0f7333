"""Opens a teacher, after a look at whether it fits what is to be learnt from it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.compression.distillation.teacher import NetworkTeacher, Rescaling, Teacher
from mlctl.data.description import Scaling
from mlctl.data.prepared import PreparedData
from mlctl.engine.stage import Step, Work
from mlctl.errors import StepFailed
from mlctl.graphs.tokenizer_file import TOKENIZER_FILE
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig
from mlctl.stages.artifacts import Model, OnnxModel
from mlctl.stages.graph_teachers import graph_teacher
from mlctl.stages.served_teachers import served_teacher
from mlctl.stages.teacher_source import TeacherSource
from mlctl.tasks.squared_error import Unit
from mlctl.tasks.table import TASKS
from mlctl.training.precision import Choice
from mlctl.training.trained import model_inputs, stored_model, use_threads

if TYPE_CHECKING:
    import torch

OTHER = "let teacher and student learn from the same `prepare`, or name its data in `distill.data`"


@dataclass(frozen=True)
class Classroom:
    """What a teacher is opened in: the data that it answers, their folder, and the step's work."""

    data: PreparedData
    folder: Path
    work: Work


def open_teacher(source: TeacherSource, classroom: Classroom, device: "torch.device", precision: Choice) -> Teacher:
    """The teacher; it is given inputs on any device, and answers there.

    A network of torch stands on `device` and computes in `precision`; graphs and servers are asked from the host.
    Raises StepFailed for a step that learnt other inputs, classes or tokens, DataError for a file or a server whose
    inputs or answers do not fit the data, and what loading them raises.
    """
    work = classroom.work
    use_threads(work.threads)
    step = source.step
    if step is None or not source.is_network:
        return _on_host(source, classroom)
    config, model = network_of(step, classroom)
    work.choices["teacher"] = f"{step.name} on {device}"
    return NetworkTeacher(model, device, precision, work.fingerprints[step.name], _rescaling(config, classroom))


def _on_host(source: TeacherSource, classroom: Classroom) -> Teacher:
    data, work = classroom.data, classroom.work
    if source.url:
        return served_teacher(source.url, data, work)
    path = source.file
    if source.step is not None:
        folder = work.artifact(source.step).folder
        require_same_tokens(source.step.name, folder, classroom)
        path = OnnxModel(folder).graph
    assert path is not None
    work.choices["teacher"] = f"{path.name if source.step is None else source.step.name} in ONNX Runtime"
    return graph_teacher(path, data, work)


def network_of(step: Step[Model], classroom: Classroom) -> tuple[ModelConfig, CompleteModel]:
    """The trained network of a step. Raises StepFailed where it learnt other inputs, classes or tokens."""
    work, description = classroom.work, classroom.data.description
    folder = work.artifact(step).folder
    config, model = stored_model(folder, work.code)
    given = model_inputs(TASKS[description.task], description)
    require_same_tokens(step.name, folder, classroom)
    if (config.inputs, config.labels) != (given, description.labels):
        what = "inputs" if config.inputs != given else "classes, or the same in another order,"
        raise StepFailed(f"the teacher {step.name} learnt other {what} than the data holds", next=OTHER)
    return config, model


def require_same_tokens(name: str, model: Path, classroom: Classroom) -> None:
    """Raise StepFailed where a teacher's folder has another `tokenizer.json` than the data's, or none."""
    wanted, found = classroom.folder / TOKENIZER_FILE, model / TOKENIZER_FILE
    if wanted.exists() and not (found.exists() and found.read_bytes() == wanted.read_bytes()):
        raise StepFailed(f"the teacher {name} learnt other tokens than the data holds", next=OTHER)


def _rescaling(config: ModelConfig, classroom: Classroom) -> Rescaling | None:
    """What brings a teacher's numbers to the student's unit, where it learnt from data that were scaled otherwise."""
    theirs, ours = config.target_scaling, classroom.data.description.target_scaling
    teacher = Unit.of(Scaling(theirs.scale, theirs.mean, theirs.deviation))
    return None if teacher == Unit.of(ours) else Rescaling.between(teacher, Unit.of(ours))
