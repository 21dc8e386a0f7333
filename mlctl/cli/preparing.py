"""A recipe's prepared data, for a command that runs no other step of it."""

from pathlib import Path

from mlctl.cli.output import Output
from mlctl.cli.session import Session, run_options
from mlctl.engine.verdict import Verdict


def prepared_data(recipe: Path, store: Path | None, output: Output) -> tuple[Verdict, Path | None]:
    """The verdict on the recipe's prepare steps, which are run where they were not yet, and the first one's folder.

    There is none where the verdict is not good. Raises UsageError for a recipe that prepares nothing.
    """
    session = Session(recipe, (), store)
    plan = session.plan(session.needed_for("prepare"))
    verdict = session.run("prepare", plan, run_options("cpu", None, keep_going=False, allow_code=False), output)
    folder = verdict.steps[0].folder if verdict.steps and verdict.exit_code == 0 else None
    return verdict, Path(folder) if folder else None
