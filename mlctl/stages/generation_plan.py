"""What is to be generated, and by which model, checked before anything is loaded or run."""

import os
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from mlctl.engine.plan import Life
from mlctl.engine.stage import Step
from mlctl.errors import UsageError
from mlctl.recipe.recipe import Recipe
from mlctl.stages.artifacts import Model
from mlctl.stages.wiring import Above, makes

TASK = "language-modeling"


@dataclass(frozen=True)
class GenerationSettings:
    """What to go on from and how far, and how each token is drawn: see `runtime.sampling.Sampling`.

    Raises UsageError for numbers that cannot be.
    """

    prompt: str
    tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int

    def __post_init__(self) -> None:
        if not (isfinite(self.temperature) and self.temperature >= 0):
            raise UsageError(
                f"{self.temperature} is no temperature", next="write 0 for the likeliest token, or a number above it"
            )
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise UsageError(f"{self.top_p} is no probability", next="write `--top-p` above 0, and 1 at most")


def prompt_text(argument: str) -> str:
    """The text of a command line's argument: its bytes are UTF-8, whatever the locale makes of them.

    Raises UsageError where they are not.
    """
    if argument.isascii() or not any("\ud800" <= each <= "\udfff" for each in argument):
        return argument
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        raise UsageError(
            "the prompt is not UTF-8", next="write the prompt as UTF-8 text, which is what the model learnt from"
        ) from None


@dataclass(frozen=True)
class Place:
    """What runs a model: threads, a device or `auto`, and the folder that a user's own network may come from."""

    threads: int
    device: str
    code: Path | None


@dataclass(frozen=True)
class Generator:
    """The step whose model goes on with the text, and the one that prepared what it learnt from."""

    model: Step[Any]
    data: Step[Any]


def generator(recipe: Recipe, life: Life, named: str | None) -> Generator:
    """The model of the step `named`, or the recipe's last one.

    Raises UsageError where there is none, and where it is no language model.
    """
    if named is None:
        model = next((step for step in reversed(life.steps) if makes(step, Model)), None)
        if model is None:
            raise UsageError("the recipe makes no model", where=recipe.path, next="add a `train:` key to it")
    else:
        model = life.step(named)
        if not makes(model, Model):
            models = ", ".join(step.name for step in life.steps if makes(step, Model))
            raise UsageError(f"{named} makes no model", where=recipe.path, next=f"name one of: {models}")
    above = Above(recipe, life.steps, model.name)
    data = above.data_of(model)
    if above.task(data) != TASK:
        raise UsageError(
            f"{model.name} is for {above.task(data)}; only models for {TASK} generate",
            where=recipe.path,
            next=f"give a recipe whose `prepare.task` is {TASK}",
        )
    return Generator(model, data)
