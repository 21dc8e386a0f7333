"""teach: a teacher answers the train split once, for every student that learns from it."""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Kind, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.events import Warned
from mlctl.recipe.vocabulary import TASKS
from mlctl.stages.artifacts import Data
from mlctl.stages.teacher_metrics import judged_by
from mlctl.stages.teacher_source import TeacherSource

if TYPE_CHECKING:
    import torch

    from mlctl.compression.distillation.teacher import Teacher
    from mlctl.data.prepared import PreparedData
    from mlctl.tasks.task import Measured


@dataclass(frozen=True)
class TeacherAnswers:
    """A teacher's answers to the train split: `answers.json`, and the arrays that it names."""

    folder: Path


class Teach(Stage[TeacherAnswers]):
    """A teacher and prepared data in, its answers out."""

    name = "teach"
    revision = 1

    def __init__(self, source: TeacherSource, data: Step[Data], task: str, top_k: int) -> None:
        """`top_k` is how many tokens of a place are kept, where the answers are about tokens."""
        self._source = source
        self._data = data
        self._task = task
        self._top_k = top_k

    def settings(self) -> Mapping[str, Json]:
        """The address of a served teacher, and how many tokens are kept; nothing that is about a student."""
        about_tokens = {"top_k": self._top_k} if self._task == "language-modeling" else {}
        return {**self._source.settings(), **about_tokens}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The data, and the teacher where it is a step."""
        return {"data": self._data, **self._source.inputs()}

    def sources(self) -> tuple[Path, ...]:
        """The teacher's files, where it is one."""
        return self._source.sources()

    @property
    def is_reproducible(self) -> bool:
        """Not where a server answers, which may serve something else tomorrow."""
        return self._source.url is None

    @property
    def imports_code(self) -> bool:
        """Whether the teacher is a user's own network."""
        return self._source.imports_code

    def promises(self) -> tuple[Promise, ...]:
        """How good the teacher is on the validation split, how many rows it answered, and their size."""
        of_teacher = (Promise(f"validation_{name}", Kind.METRIC) for name in judged_by(self._task))
        return (*of_teacher, Promise("train_rows", Kind.SIZE), Promise("bytes", Kind.SIZE))

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Look whether the teacher fits and what it is worth, and let it answer."""
        from mlctl.compression.distillation.answering import Asking, save_answers
        from mlctl.data.prepared import PreparedData
        from mlctl.stages.teachers import Classroom, open_teacher
        from mlctl.training.devices import resolve_device
        from mlctl.training.failures import named_failures
        from mlctl.training.precision import Choice

        data = PreparedData.open(work.artifact(self._data).folder)
        classroom = Classroom(data, work.artifact(self._data).folder, work)
        device = resolve_device(work.device.replace("tensorrt", "cuda") if self._source.is_network else "cpu")
        with named_failures(device):
            # Computed once and learnt from often: float32, whatever a student is trained in.
            teacher = open_teacher(self._source, classroom, device, Choice("float32", "answers are kept"))
            judged = self._judged(teacher, data, device, work)
            answers = save_answers(teacher, data, Asking(self._top_k, device), work.resume, work.tell)
        for array in answers.form.arrays:
            _put(work.resume / f"{array.name}.npy", work.folder)
        answers.save(work.folder)
        size = sum(path.stat().st_size for path in work.folder.iterdir())
        rows = Figure("train_rows", Kind.SIZE, answers.rows, "rows")
        return (*judged, rows, Figure("bytes", Kind.SIZE, size, "bytes"))

    def _judged(
        self, teacher: "Teacher", data: "PreparedData", device: "torch.device", work: Work
    ) -> tuple[Figure, ...]:
        """The teacher's figures on the validation split; a person is told where they are those of mere chance."""
        from mlctl.compression.distillation.teacher_figures import CONFIDENCE, chance, teacher_figures

        metrics = TASKS[self._task].metrics
        found = teacher_figures(teacher, data, judged_by(self._task), device)
        by_chance = {each.name: chance(each.name, data) for each in found}
        poor = [each for each in found if _is_chance(each, by_chance[each.name], metrics[each.name] == "higher")]
        if poor:
            _warn_of_chance(poor[0], by_chance[poor[0].name], work)
        return tuple(
            Figure(
                f"validation_{each.name}",
                Kind.METRIC,
                each.value,
                better=metrics[each.name],
                low=each.low,
                high=each.high,
                confidence=CONFIDENCE,
            )
            for each in found
        )

    def open(self, folder: Path) -> TeacherAnswers:
        """The answers."""
        return TeacherAnswers(folder)


def _put(path: Path, folder: Path) -> None:
    """Let `folder` have the file too: until the artifact is published, a kill shall not cost what can be resumed."""
    try:
        os.link(path, folder / path.name)
    except OSError:  # not every file system lets a file have two names
        shutil.copyfile(path, folder / path.name)


def _is_chance(found: "Measured", by_chance: float | None, is_higher_better: bool) -> bool:
    """Whether the figure's interval does not tell it from that of mere chance."""
    return by_chance is not None and (found.low <= by_chance if is_higher_better else found.high >= by_chance)


def _warn_of_chance(found: "Measured", by_chance: float | None, work: Work) -> None:
    work.tell(
        Warned(
            f"the teacher is no better than chance on the validation split: {found.name} {found.value:.4g}, and "
            f"{by_chance:.4g} without looking at the inputs; does it take its inputs scaled otherwise?"
        )
    )
