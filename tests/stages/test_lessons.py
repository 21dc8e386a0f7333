"""Students that learn from teachers, through the same training as any step: what each recipe's wish comes to."""

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from conftest import Lab
from inference_servers import InferenceWorld, Served, as_usual, refusing, serving
from schools import School, softmax

from mlctl.data.prepared import PreparedData
from mlctl.data.remote_retrying import Patience
from mlctl.engine.manifest import Manifest
from mlctl.engine.stage import Work
from mlctl.errors import MachineError, StepFailed
from mlctl.models.complete import CompleteModel
from mlctl.models.files import ModelConfig, load_model, save_model
from mlctl.recipe.augmentation import AugmentSettings
from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.networks import CnnSettings, MlpSettings, NetworkSettings, TransformerSettings
from mlctl.recipe.optimization import AdamWSettings
from mlctl.stages.assembly import assemble
from mlctl.stages.learning import Lesson, taught
from mlctl.stages.lesson_plan import asks_in_every_step, require_teachable
from mlctl.stages.lessons import initialized, lessons
from mlctl.stages.teacher_source import TeacherSource
from mlctl.stages.teachers import Classroom
from mlctl.stages.wiring import WiringError
from mlctl.tasks.table import TASKS
from mlctl.training.loop import Fitted
from mlctl.training.trained import fresh_model, model_config, stored_model

SEED = 5
QUICK: dict[str, Any] = {
    "epochs": 4, "batch_size": 16, "precision": "float32", "keep_best": None, "optimizer": AdamWSettings(lr=1e-2)
}  # fmt: skip
SMALL = CnnSettings(channels=(3,))


@dataclass(frozen=True)
class Student:
    """A student before or after its lessons."""

    config: ModelConfig
    model: CompleteModel
    fitted: Fitted | None = None


class Course:
    """A student of a school's data, in a folder of its own."""

    def __init__(self, school: School, settings: DistillSettings, folder: Path) -> None:
        folder.mkdir()
        (folder / "resume").mkdir()
        self.school = school
        self.settings = settings
        self.source = school.source(settings.teacher)
        self.folder = folder
        places = {name: school.lab.artifact(school.recipe, name) for name in ("prepare", "train")}
        if (school.lab.store / "steps" / school.recipe / "export").exists():
            places["export"] = school.lab.artifact(school.recipe, "export")
        self.data = PreparedData.open(places["prepare"])
        self.work = Work(
            folder=folder, resume=folder / "resume", fingerprint="f" * 64, device="cpu", threads=1, choices={},
            code=None, tell=school.told.append, folders=places,
            fingerprints={name: Manifest.load(place).fingerprint for name, place in places.items()}, figures={},
        )  # fmt: skip
        self.classroom = Classroom(self.data, places["prepare"], self.work)

    def student(self) -> Student:
        network = self.settings.student
        assert network is not None
        config = model_config(TASKS[self.data.description.task], network, self.data.description)
        return Student(config, fresh_model(config, SEED, None))

    @contextmanager
    def lessons(self, student: Student) -> Iterator[Any]:
        if not asks_in_every_step(self.settings):
            assert self.school.ask(self.settings.teacher, top_k=self.settings.top_k).failures == ()
        answers = None if asks_in_every_step(self.settings) else self.school.folder
        pair = student.config, student.model
        with lessons(self.settings, self.source, answers, pair, self.classroom, seed=SEED) as beside:
            yield beside

    def learnt(self, student: Student | None = None) -> Student:
        """The student after all of its lessons."""
        student = student or self.student()
        lesson = Lesson(self.settings, {}, SEED, "r", "distill", self.folder)
        with self.lessons(student) as beside:
            pair = student.config, student.model
            fitted = taught(lesson, pair, self.data, self.work, resume=self.work.resume, beside=beside)
        return Student(student.config, student.model, fitted)


def settings(teacher: str = "train", model: NetworkSettings = SMALL, **changes: Any) -> DistillSettings:
    return DistillSettings(teacher=teacher, model=model, **{**QUICK, **changes})


def far(school: School, model: CompleteModel) -> float:
    """How far a model's shares are from its teacher's on the train split, on the mean."""
    inputs = school.data.split("train").inputs
    rows = tuple(torch.from_numpy(each.copy()) for each in inputs)
    _, teacher = stored_model(school.lab.artifact(school.recipe, "train"), None)
    with torch.inference_mode():
        mine, theirs = (each.eval().raw_outputs(*rows).numpy() for each in (model, teacher))
    if mine.shape[-1] == 1:
        return float(((mine - theirs) ** 2).mean())
    p, q = softmax(theirs), softmax(mine)
    return float((p * np.log(p / q)).sum(-1).mean())


IMAGES: list[dict[str, Any]] = [
    {},
    {"loss": "decoupled"},
    {"loss": "features"},
    {"loss": "attention"},
    {"augment": AugmentSettings(shift=1)},
    {"augment": AugmentSettings(mixup=0.5), "teacher": "export"},
    {"loss": "attention", "augment": AugmentSettings(flip=True)},
]


@pytest.mark.parametrize("changes", IMAGES, ids=str)
def test_a_student_comes_nearer_to_its_teacher_and_is_a_model_like_any_other(
    finished_lab: Lab, tmp_path: Path, changes: dict[str, Any]
) -> None:
    school = School(finished_lab)
    course = Course(school, settings(**{"hard": 0.0, "temperature": 1.0, "epochs": 12, **changes}), tmp_path / "course")
    student = course.student()
    before = far(school, student.model)
    found = course.learnt(student)
    assert far(school, found.model) < 0.8 * before
    save_model(course.folder, found.config, found.model.network, "f")
    config, network = load_model(course.folder)
    assert config == found.config
    for name, each in network.state_dict().items():
        assert torch.equal(each, found.model.network.state_dict()[name]), name


@pytest.mark.parametrize("changes", IMAGES[:5], ids=str)
def test_the_same_lessons_end_in_the_same_bytes(finished_lab: Lab, tmp_path: Path, changes: dict[str, Any]) -> None:
    ends = []
    for name in ("one", "two"):
        found = Course(School(finished_lab), settings(**changes), tmp_path / name).learnt()
        save_model(tmp_path / name, found.config, found.model.network, "f")
        ends.append((tmp_path / name / "model.safetensors").read_bytes())
    assert ends[0] == ends[1]


def test_the_layers_that_were_found_are_noted(finished_lab: Lab, tmp_path: Path) -> None:
    course = Course(School(finished_lab), settings(loss="features"), tmp_path / "course")
    course.learnt()
    assert course.work.choices["layers"] == "blocks.0 [3, 4, 4] like blocks.0 [4, 4, 4]"
    unknown = Course(School(finished_lab), settings(loss="features", layers={"blocks.0": "top"}), tmp_path / "other")
    with pytest.raises(StepFailed, match="the teacher has no layer 'top'"):
        unknown.learnt()


def test_a_regression_learns_its_teachers_numbers(finished_lab: Lab, tmp_path: Path) -> None:
    school = School(finished_lab, "tiny")
    course = Course(school, settings(model=MlpSettings(hidden=(3,)), hard=0.0, epochs=30), tmp_path / "course")
    student = course.student()
    before = far(school, student.model)
    assert far(school, course.learnt(student).model) < 0.5 * before


@pytest.mark.parametrize(
    "changes", [{"top_k": 4}, {"top_k": 64}, {"top_k": 4, "loss": "decoupled"}, {"loss": "features"}]
)
def test_a_language_model_learns_what_its_teacher_expects(
    language_lab: Lab, tmp_path: Path, changes: dict[str, Any]
) -> None:
    school = School(language_lab, "language")
    network = TransformerSettings(width=8, layers=1, heads=2)
    wish = settings(model=network, **{"hard": 0.0, "temperature": 1.0, **changes})
    course = Course(school, wish, tmp_path / "course")
    student = course.student()
    before = far(school, student.model)
    assert far(school, course.learnt(student).model) < 0.8 * before


def test_a_student_can_start_from_its_teachers_layers(finished_lab: Lab, tmp_path: Path) -> None:
    course = Course(School(finished_lab), settings(model=CnnSettings(channels=(4, 3))), tmp_path / "course")
    student = course.student()
    copied = initialized(course.source, student.model, course.classroom)
    _, teacher = stored_model(finished_lab.artifact("whole", "train"), None)
    assert "blocks.0.conv.weight" in copied
    assert "head.weight" not in copied
    conv = "blocks.0.conv.weight"
    assert torch.equal(student.model.network.state_dict()[conv], teacher.network.state_dict()[conv])
    total = len(student.model.network.state_dict())
    assert course.work.choices["initialized"] == f"{len(copied)} of {total} arrays from train"


def test_answers_once_unless_the_teacher_must_see_what_the_student_sees(finished_lab: Lab) -> None:
    assert [asks_in_every_step(settings(**each)) for each in IMAGES] == [False, False, True, True, True, True, True]


FILE = TeacherSource(file=Path("teacher.onnx"))


@pytest.mark.parametrize(
    ("changes", "task", "key"),
    [
        ({"loss": "features"}, "image-classification", "loss"),
        ({"loss": "attention"}, "image-classification", "loss"),
        ({"layers": {"a": "b"}}, "image-classification", "layers"),
        ({"initialize": True}, "image-classification", "initialize"),
        ({"loss": "decoupled"}, "regression", "loss"),
        ({"loss": "decoupled", "augment": AugmentSettings(mixup=0.2)}, "image-classification", "loss"),
    ],
)
def test_what_cannot_be_taught_is_told_before_anything_runs(changes: dict[str, Any], task: str, key: str) -> None:
    assert refused(settings(**changes), FILE, task) == key


def refused(wish: DistillSettings, source: TeacherSource, task: str) -> str | None:
    """The key that is refused, if any is."""
    try:
        require_teachable(wish, source, task)
    except WiringError as refusal:
        return refusal.key
    return None


def test_what_can_be_taught_passes(finished_lab: Lab) -> None:
    school, wishes = School(finished_lab), [settings(**changes) for changes in IMAGES]
    found = [refused(wish, school.source(wish.teacher), "image-classification") for wish in wishes]
    assert found == [None] * len(IMAGES)
    assert refused(settings(), FILE, "regression") is None


def bright(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Logits of two classes, by how bright the halves of raw pixels are."""
    return np.asarray(rows.reshape(len(rows), 2, 8).astype(np.float32).mean(-1) / 4)


SERVED = Served(bright, ("pixels", "uint8", [-1, 1, 4, 4]), ("scores", "float32", [-1, 2]))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between attempts to reach a server."""
    quick = Patience(attempts=2, silence=10.0, pause=lambda seconds: None)
    monkeypatch.setattr("mlctl.compression.distillation.served_model.ServedModel.__init__.__defaults__", (quick,))


@pytest.mark.usefixtures("impatient")
def test_a_training_goes_on_with_the_served_teacher_that_it_began_with_and_with_no_other(
    finished_lab: Lab, tmp_path: Path
) -> None:
    school = School(finished_lab)
    with serving(InferenceWorld(SERVED)) as world:
        wish = settings(world.url, augment=AugmentSettings(shift=1))
        whole = Course(school, wish, tmp_path / "whole").learnt()
        asked = len(world.batches)
        course = Course(school, wish, tmp_path / "course")
        world.script = deque([*[as_usual] * (asked - 3), *[refusing(503)] * 9])
        with pytest.raises(MachineError, match="503"):
            course.learnt()
        world.script.clear()
        world.version = "2"
        with pytest.raises(MachineError) as refusal:
            course.learnt()
        now, before = (f"net version {each} on onnxruntime_onnx at {world.url}" for each in (2, 1))
        assert refusal.value.what == f"{now} answers now, and {before} did when this training began"
        assert refusal.value.where == world.url
        assert refusal.value.next.startswith("serve that one again to go on, or begin anew with `--force STEP`")
        world.version = "1"
        found = course.learnt()
    for name, each in found.model.network.state_dict().items():
        assert torch.equal(each, whole.model.network.state_dict()[name]), name


def test_what_a_server_taught_in_every_step_may_be_other_bytes_tomorrow(lab: Lab) -> None:
    head = (lab.folder / "whole.yaml").read_text().partition("\nexport:")[0]
    recipe = lab.folder / "taught.yaml"
    found = {}
    for teacher in ("train", "http://localhost:1/v2/models/net"):
        for beside in ("", ", augment: {shift: 1}"):
            recipe.write_text(f"{head}\ndistill: {{teacher: '{teacher}', model: {{arch: cnn}}{beside}}}\n")
            (step,) = (each for each in assemble(load_recipe(recipe)).steps if each.name == "distill")
            found[teacher[:5], bool(beside)] = step.stage.is_reproducible
    assert found == {("train", False): True, ("train", True): True, ("http:", False): True, ("http:", True): False}
