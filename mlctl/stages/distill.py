"""distill: a smaller network learns from a larger one's answers."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.models.code_file import code_files
from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.networks import CustomSettings
from mlctl.recipe.vocabulary import TASKS
from mlctl.stages.artifacts import Data, TrainedModel
from mlctl.stages.lesson_plan import answers_step, require_teachable
from mlctl.stages.teacher_source import TeacherSource
from mlctl.stages.train import require_applicable, require_network, require_room
from mlctl.stages.trained_files import training_promises
from mlctl.stages.wiring import Above, WiringError, require_all

if TYPE_CHECKING:
    from mlctl.data.prepared import PreparedData
    from mlctl.models.complete import CompleteModel
    from mlctl.models.files import ModelConfig


class Distill(Stage[TrainedModel]):
    """Data, a teacher and perhaps a student in, a trained model out."""

    name = "distill"
    revision = 1
    is_shared_work = True

    def __init__(
        self,
        settings: DistillSettings,
        data: Step[Data],
        source: TeacherSource,
        student: Step[TrainedModel] | None,
        above: Above,
    ) -> None:
        """`student` is the step whose network learns; None where it is made fresh."""
        self._settings = settings
        self._data = data
        self._source = source
        self._student = student
        self._task = above.task(data)
        self._answers = answers_step(settings, source, data, above)
        self._seed = above.seed
        self._base = above.base
        self._title = above.recipe.name, above.name

    @classmethod
    def wired(cls, settings: DistillSettings, above: Above) -> "Distill":
        """The stage as a recipe asks for it."""
        student = above.trained(settings.from_) if settings.from_ else None
        learnt = above.data_of(student) if student else None
        data = learnt if learnt and not settings.data else above.data(settings.data)
        if learnt and learnt is not data:
            raise WiringError("data", f"the student of {settings.from_} learnt from {learnt.name}")
        fresh, task = settings.student, above.task(data)
        require_all(
            lambda: require_network(fresh, data, above) if fresh else None,
            lambda: require_applicable(settings, task),
            lambda: require_room(settings, data, above),
            lambda: require_teachable(settings, TeacherSource.wired(settings.teacher, data, above), task),
        )
        return cls(settings, data, TeacherSource.wired(settings.teacher, data, above), student, above)

    def settings(self) -> Mapping[str, Json]:
        """The recipe's settings, the address of a served teacher, and the seed of everything random."""
        student = self._settings.student
        named = {"model": student and student.deciding()}
        return {
            **self._settings.deciding("data", "from_", "teacher"),
            **named,
            **self._source.settings(),
            "seed": self._seed,
        }

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The data, the student where it is a step's, and the teacher's answers, its network, or both."""
        student = {"student": self._student} if self._student else {}
        answers = {"answers": self._answers} if self._answers else {}
        needs_teacher = not self._answers or self._settings.initialize
        return {"data": self._data, **student, **answers, **(self._source.inputs() if needs_teacher else {})}

    def sources(self) -> tuple[Path, ...]:
        """The code of the user's own network, if it is one, and the file of a teacher that is asked in every step."""
        student = self._settings.student
        code = code_files(student.arch, self._base) if isinstance(student, CustomSettings) else ()
        return (*code, *(() if self._answers else self._source.sources()))

    @property
    def is_reproducible(self) -> bool:
        """Not where a server is asked in every step, which may serve something else tomorrow."""
        return self._source.url is None or self._answers is not None

    @property
    def imports_code(self) -> bool:
        """Whether the student is the user's own; whose steps its inputs are, the plan knows."""
        return isinstance(self._settings.student, CustomSettings)

    def promises(self) -> tuple[Promise, ...]:
        """Those of a training."""
        return training_promises(TASKS[self._task])

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Let the student learn, and write the model, its history and its card."""
        from mlctl.compression.pruning.zeros_that_stay import zeros_that_stay
        from mlctl.data.prepared import PreparedData
        from mlctl.stages.learning import Lesson, taught
        from mlctl.stages.lessons import initialized, lessons
        from mlctl.stages.teachers import Classroom
        from mlctl.stages.trained_files import finished_training

        folder = work.artifact(self._data).folder
        data = PreparedData.open(folder)
        classroom = Classroom(data, folder, work)
        trained = self._begun(data, work)
        if self._settings.initialize:
            initialized(self._source, trained[1], classroom)
        recipe, step = self._title
        lesson = Lesson(self._settings, self.settings(), self._seed, recipe, step, self._base)
        answers = work.artifact(self._answers).folder if self._answers else None
        with lessons(self._settings, self._source, answers, trained, classroom, seed=self._seed) as beside:
            if self._student:
                beside = replace(beside, after_step=zeros_that_stay(trained[1].network.parameters()))
            fitted = taught(lesson, trained, data, work, resume=work.resume, beside=beside)
        return finished_training(trained, fitted, data, folder, work)

    def _begun(self, data: "PreparedData", work: Work) -> "tuple[ModelConfig, CompleteModel]":
        """The student as it begins."""
        from mlctl.stages.learning import begun
        from mlctl.tasks.table import TASKS as TASK_TABLE
        from mlctl.training.trained import model_config, stored_model

        if self._student:
            return stored_model(work.artifact(self._student).folder, work.code)
        assert self._settings.student is not None
        config = model_config(TASK_TABLE[self._task], self._settings.student, data.description)
        return config, begun(config, self._seed, work)

    def open(self, folder: Path) -> TrainedModel:
        """The trained model."""
        return TrainedModel(folder)
