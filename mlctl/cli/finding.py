"""`mlctl train --find-lr`: the data is prepared where it was not yet, and every train step's rates are tried."""

from collections.abc import Iterator
from pathlib import Path

from mlctl.cli.exploring import Exploration
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.recipe.train import TrainSettings
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
    exploration = Exploration(STAGE, TrainSettings, session, options, output, image)
    exploration.require_possible()
    verdict = exploration.prepared()
    if verdict.exit_code == 0:
        from mlctl.stages.finding import find_rates

        questions = tuple(_questions(exploration, {result.step: result.folder for result in verdict.steps}))
        seed = session.recipe.seed
        verdict = exploration.explored(lambda tell: find_rates(session.path, questions, seed, options, tell))
    if isinstance(verdict, RateVerdict) and not output.as_json:
        from mlctl.cli.finding_view import show_curves

        show_curves(verdict.curves)
    return output.finish(verdict)


def _questions(exploration: Exploration, folders: dict[str, str | None]) -> Iterator[RateQuestion]:
    session = exploration.session
    for step in exploration.steps:
        settings = session.recipe.step(step.name).settings
        assert isinstance(settings, TrainSettings)
        folder = folders[step.stage.inputs()["data"].name]
        assert folder  # it was prepared without a failure
        image = exploration.image or image_path(session.store.root, session.life.name, step.name)
        yield RateQuestion(step.name, settings, Path(folder), image)
