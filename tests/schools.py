"""A lab in which a teacher is asked: the real engine over a real store, with one `teach` step behind a recipe."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from conftest import Lab

from mlctl.compression.distillation.answer_files import Answers
from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure
from mlctl.engine.making import RunOptions
from mlctl.engine.manifest import Manifest
from mlctl.engine.plan import Life, Planner
from mlctl.engine.run import Runner
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Step
from mlctl.engine.store import Store
from mlctl.engine.verdict import Verdict
from mlctl.events import Event
from mlctl.recipe.loading import load_recipe
from mlctl.stages.assembly import assemble
from mlctl.stages.comparison import paired_difference
from mlctl.stages.teach import Teach
from mlctl.stages.teacher_source import TeacherSource
from mlctl.stages.wiring import Above

NAME = "distill:teacher"


@dataclass
class School:
    """A recipe of a lab whose steps are made already, and what was told while its teacher answered."""

    lab: Lab
    recipe: str = "whole"
    told: list[Event] = field(default_factory=list)

    def source(self, teacher: str) -> TeacherSource:
        """What `teacher:` comes to in this recipe."""
        above = self._above()
        return TeacherSource.wired(teacher, above.data(None), above)

    def teach(self, teacher: str, *, top_k: int = 64) -> Step[Any]:
        """The step in which this teacher answers."""
        above = self._above()
        data = above.data(None)
        source = TeacherSource.wired(teacher, data, above)
        return Step(NAME, Teach(source, data, above.task(data), top_k))

    def ask(self, teacher: str, *, top_k: int = 64, forced: Sequence[str] = ()) -> Verdict:
        """Let this teacher answer, and make what it needs."""
        store = Store(self.lab.store)
        life = self._life(self.teach(teacher, top_k=top_k))
        plan = Planner(store, SourceLedger(store.ledger)).plan(life, life.closure([NAME]), frozenset(forced))
        ledger, options = SourceLedger(store.ledger), RunOptions(device="cpu")
        return Runner(store, ledger, options, tell=self.told.append, comparer=paired_difference).run(plan, "run")

    @property
    def folder(self) -> Path:
        """What the teacher last answered."""
        return self.lab.artifact(self.recipe, NAME)

    @property
    def answers(self) -> Answers:
        return Answers.open(self.folder)

    @property
    def choices(self) -> dict[str, str]:
        return dict(Manifest.load(self.folder).made.choices)

    @property
    def data(self) -> PreparedData:
        return PreparedData.open(self.lab.artifact(self.recipe, "prepare"))

    def _above(self) -> Above:
        recipe = load_recipe(self.lab.folder / f"{self.recipe}.yaml")
        return Above(recipe, assemble(recipe).steps, "distill")

    def _life(self, step: Step[Any]) -> Life:
        recipe = load_recipe(self.lab.folder / f"{self.recipe}.yaml")
        return Life(recipe.name, recipe.path, (*assemble(recipe).steps, step), ())


def outcome(verdict: Verdict) -> str:
    """What became of the teacher's step."""
    return {each.step: each.outcome.value for each in verdict.steps}[NAME]


def figures(verdict: Verdict) -> dict[str, Figure]:
    """What the teacher's step measured."""
    (found,) = (each for each in verdict.steps if each.step == NAME)
    return {each.figure: each for each in found.figures}


def softmax(logits: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """In float64, over the last axis."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))
