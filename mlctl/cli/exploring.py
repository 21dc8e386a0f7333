"""Commands that try what a stage's steps could do: what they read is made, they themselves are not."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlctl import __version__
from mlctl.cli.interrupts import raising_interrupts
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.stage import Step
from mlctl.engine.verdict import Failure, Verdict
from mlctl.errors import Interrupted, UsageError
from mlctl.events import Tell
from mlctl.recipe.base import Settings


@dataclass(frozen=True)
class Exploration:
    """The steps of one stage that are to be tried, and where the image of what was found goes, if it is named."""

    stage: str
    kind: type[Settings]
    """Of the stage's steps, those with such settings."""
    session: Session
    options: RunOptions
    output: Output
    image: Path | None

    @property
    def steps(self) -> list[Step[Any]]:
        """The steps, in the recipe's order."""
        of_stage = (step for step in self.session.life.steps if step.stage.name == self.stage)
        return [step for step in of_stage if isinstance(self.session.recipe.step(step.name).settings, self.kind)]

    def require_possible(self) -> None:
        """Raise UsageError for code that is not allowed, for a place where no file can be, and for several curves."""
        life = self.session.life
        importing = [step.name for step in life.steps if step.stage.imports_code]
        needed = life.closure([step.name for step in self.steps])
        if needed.intersection(importing) and not self.options.allow_code:
            raise UsageError(
                f"{', '.join(name for name in importing if name in needed)} would import code that the recipe names",
                where=self.session.path,
                next="read that code, then allow it to run with `--allow-code`",
            )
        if self.image is None:
            return
        if len(self.steps) > 1:
            raise UsageError(
                f"the recipe has a curve for each of its {self.stage} steps: "
                f"{', '.join(step.name for step in self.steps)}",
                where=self.session.path,
                next="leave `--output` out: the curves then lie in the store",
            )
        if self.image.is_dir() or not self.image.parent.is_dir():
            raise UsageError(
                "no file can be written there", where=self.image, next="name a file in a folder that is there"
            )

    def image_of(self, step: str, otherwise: Callable[[Path, str, str], Path]) -> Path:
        """The file for a step's image: the one that was named, or what `otherwise` says for store, recipe and step."""
        return self.image or otherwise(self.session.store.root, self.session.life.name, step)

    def verdict(self, explore: Callable[[Mapping[str, Path], Tell], Verdict]) -> Verdict:
        """What `explore` finds, given the folders of what the steps read by name; or why that could not be made."""
        made = self._prepared()
        if made.exit_code != 0:
            return made
        folders = {result.step: Path(result.folder) for result in made.steps if result.folder}
        return self._explored(lambda tell: explore(folders, tell))

    def _prepared(self) -> Verdict:
        """What the steps read, made."""
        read = [each.name for step in self.steps for each in step.stage.inputs().values()]
        plan = self.session.plan(self.session.life.closure(read))
        return self.session.run(self.stage, plan, self.options, self.output)

    def _explored(self, explore: Callable[[Tell], Verdict]) -> Verdict:
        """What `explore` finds, or that it was interrupted."""
        try:
            with raising_interrupts() as interrupts, self.output.telling(self.session.life) as tell:
                return explore(interrupts.told(tell))
        except Interrupted as error:
            return Verdict(__version__, self.stage, str(self.session.path), failures=(Failure.of(error),))
