"""`mlctl train --find-lr`: the data is prepared where it was not yet, and every train step's rates are tried."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.stage import Step
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted, UsageError
from mlctl.recipe.train import TrainSettings
from mlctl.stages.artifacts import TrainedModel
from mlctl.stages.range_tests import RateQuestion, RateVerdict, image_path, require_one_process

STAGE = "train"


def find_lr(session: Session, options: RunOptions, output: Output, image: Path | None) -> int:
    """Show a range test for every train step of the recipe, and return the exit code; no artifact of theirs is made.

    `image` is the file that the curve is drawn into; it lies in the store where this is None. Raises UsageError where
    no file can be written there or the recipe has several curves, where it has none, for code that is not allowed, and
    in one of several processes.
    """
    require_one_process()
    session.needed_for(STAGE)
    search = _Search(session, options, output, image)
    search.require_possible()
    verdict = search.prepared()
    if verdict.exit_code == 0:
        verdict = search.found({result.step: result.folder for result in verdict.steps})
    if isinstance(verdict, RateVerdict) and not output.as_json:
        from mlctl.cli.finding_view import show_curves

        show_curves(verdict.curves)
    return output.finish(verdict)


@dataclass(frozen=True)
class _Search:
    session: Session
    options: RunOptions
    output: Output
    image: Path | None

    @property
    def steps(self) -> list[Step[TrainedModel]]:
        return [step for step in self.session.life.steps if step.stage.name == STAGE]

    def require_possible(self) -> None:
        importing = [step.name for step in self.steps if step.stage.imports_code]
        if importing and not self.options.allow_code:
            raise UsageError(
                f"{', '.join(importing)} would import code that the recipe names",
                where=self.session.path,
                next="read that code, then allow it to run with `--allow-code`",
            )
        if self.image is None:
            return
        if len(self.steps) > 1:
            raise UsageError(
                f"the recipe has a curve for each of its train steps: {', '.join(step.name for step in self.steps)}",
                where=self.session.path,
                next="leave `--output` out: the curves then lie in the store",
            )
        if self.image.is_dir() or not self.image.parent.is_dir():
            raise UsageError(
                "no file can be written there", where=self.image, next="name a file in a folder that is there"
            )

    def prepared(self) -> Verdict:
        data = [each.name for step in self.steps for each in step.stage.inputs().values()]
        plan = self.session.plan(self.session.life.closure(data))
        return self.session.run(STAGE, plan, self.options, self.output)

    def found(self, folders: dict[str, str | None]) -> Verdict:
        from mlctl.stages.finding import find_rates

        session = self.session
        questions = tuple(self._questions(folders))
        try:
            with raising_interrupts() as interrupts, self.output.telling(session.life) as tell:
                told = interrupts.told(tell)
                return find_rates(session.path, questions, session.recipe.seed, self.options, told)
        except Interrupted as error:
            return Verdict(__version__, STAGE, str(session.path), failures=(Failure.of(error),))

    def _questions(self, folders: dict[str, str | None]) -> Iterator[RateQuestion]:
        session = self.session
        for step in self.steps:
            settings = session.recipe.step(step.name).settings
            assert isinstance(settings, TrainSettings)
            folder = folders[step.stage.inputs()["data"].name]
            assert folder  # it was prepared without a failure
            image = self.image or image_path(session.store.root, session.life.name, step.name)
            yield RateQuestion(step.name, settings, Path(folder), image)
