"""`mlctl train --find-lr`: the data is prepared where it was not yet, and every train step's rates are tried."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlctl.cli.exploring import Exploration
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Verdict
from mlctl.events import Tell
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

    def found(folders: Mapping[str, Path], tell: Tell) -> Verdict:
        from mlctl.stages.finding import find_rates

        questions = tuple(_questions(exploration, folders))
        return find_rates(session.path, questions, session.recipe.seed, options, tell)

    verdict = exploration.verdict(found)
    if isinstance(verdict, RateVerdict) and not output.as_json:
        from mlctl.cli.finding_view import show_curves

        show_curves(verdict.curves)
    return output.finish(verdict)


def _questions(exploration: Exploration, folders: Mapping[str, Path]) -> Iterator[RateQuestion]:
    for step in exploration.steps:
        settings = exploration.session.recipe.step(step.name).settings
        assert isinstance(settings, TrainSettings)
        data = folders[step.stage.inputs()["data"].name]
        yield RateQuestion(step.name, settings, data, exploration.image_of(step.name, image_path))
