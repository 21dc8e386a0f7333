"""A recipe that was read and checked."""

from dataclasses import dataclass, field
from pathlib import Path

from mlctl.errors import Problem, UsageError
from mlctl.recipe.base import Settings
from mlctl.recipe.tree import Node, Place, place_at, problem_at
from mlctl.recipe.wording import did_you_mean, listed, shown


@dataclass(frozen=True)
class Step:
    """One use of a stage: `name` is `quantize.half` where `stage` is `quantize`."""

    name: str
    stage: str
    settings: Settings


@dataclass(frozen=True)
class Gate:
    """A condition over measured figures; with a confidence, the paired interval must decide it."""

    that: str
    confidence: float | None


@dataclass(frozen=True)
class Recipe:
    """Everything about one model's life. Two recipes are equal when they ask for the same."""

    path: Path = field(compare=False)
    """The file, as the user named it."""
    name: str
    seed: int
    steps: tuple[Step, ...]
    gates: tuple[Gate, ...]
    tree: Node = field(compare=False, repr=False)
    """What the file says, overrides included, with places."""

    def step(self, name: str) -> Step:
        """The step of this name. Raises UsageError where there is none."""
        for step in self.steps:
            if step.name == name:
                return step
        names = [step.name for step in self.steps]
        raise UsageError(
            f"there is no step '{shown(name)}'{did_you_mean(name, names)}",
            where=self.path,
            next=f"name one of {listed(names)}",
        )

    def place(self, *path: str | int) -> Place:
        """Where the value at the path stands, or the nearest thing above it; the step's name is one key."""
        return place_at(self.tree, path)

    def problem(self, path: tuple[str | int, ...], message: str) -> Problem:
        """The problem, at its place."""
        return problem_at(self.tree, path, message)
