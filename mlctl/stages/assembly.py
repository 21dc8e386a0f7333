"""A recipe becomes steps that the engine can plan and run."""

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import Any

from mlctl.engine.expressions import GateSyntaxError
from mlctl.engine.figures import FigureName
from mlctl.engine.gates import Gate
from mlctl.engine.plan import Life
from mlctl.engine.stage import Step
from mlctl.errors import Problem, RecipeError
from mlctl.recipe.loading import Examined
from mlctl.recipe.recipe import Recipe
from mlctl.recipe.wording import did_you_mean
from mlctl.stages.table import STAGES
from mlctl.stages.wiring import Above, Unwired, WiringError


def assemble(recipe: Recipe) -> Life:
    """The recipe's steps, each with what it reads, and its gates. Raises RecipeError with all problems at once."""
    return assemble_examined(Examined(recipe, (), frozenset()))


def assemble_examined(examined: Examined) -> Life:
    """As `assemble`, for a recipe that may have problems already; they are raised together with the new ones."""
    recipe, problems = examined.recipe, list(examined.problems)
    steps: list[Step[Any]] = []
    unwired = set(examined.broken)
    for wanted in recipe.steps:
        try:
            if wanted.name not in examined.broken:
                above = Above(recipe, steps, wanted.name, _above(recipe, wanted.name, unwired))
                stage = STAGES[wanted.stage](wanted.settings, above)
                if stage is not None:
                    # What a stage brings along stands before it: no recipe names it.
                    steps.extend(each for each in stage.inputs().values() if each not in steps)
                    steps.append(Step(wanted.name, stage))
        except Unwired:
            unwired.add(wanted.name)
        except WiringError as error:
            for each in (error, *error.others):
                keys = each.key.split(".") if each.key else ()
                problems.append(recipe.problem((wanted.name, *keys), str(each)))
            unwired.add(wanted.name)
    gates = tuple(_gates(recipe, steps, unwired, problems))
    if problems:
        raise RecipeError(tuple(problems))
    return Life(recipe.name, recipe.path, tuple(steps), gates)


def _above(recipe: Recipe, name: str, unwired: Set[str]) -> Set[str]:
    """Those of the unwired steps that stand above the step in the file, which broken settings have left out of it."""
    keys = list(recipe.tree.value) if isinstance(recipe.tree.value, Mapping) else []
    return unwired & set(keys[: keys.index(name)])


def _gates(recipe: Recipe, steps: Sequence[Step[Any]], unwired: Set[str], problems: list[Problem]) -> Iterator[Gate]:
    promised = {
        FigureName(step.name, promise.model, promise.figure): promise.is_sampled
        for step in steps
        for promise in step.stage.promises()
    }
    for number, wanted in enumerate(recipe.gates):
        path = ("gates", number)
        try:
            gate = Gate.of(wanted.that, wanted.confidence)
        except GateSyntaxError as error:
            problems.append(recipe.problem(path, str(error)))
            continue
        for name in gate.comparison.figures:
            # A gate on a step that could not be wired would only repeat that problem.
            if name not in promised and not {name.step, name.model} & unwired:
                problems.append(recipe.problem(path, _unknown(name, promised)))
            elif gate.confidence is not None and not promised.get(name, True):
                problems.append(
                    recipe.problem(path, f"no interval can decide this gate: {name} has no samples behind it")
                )
        if gate.confidence is not None and gate.comparison.symbol in ("==", "!="):
            problems.append(recipe.problem(path, "no interval can decide == or !=; write >= or <="))
        yield gate


def _unknown(name: FigureName, promised: Collection[FigureName]) -> str:
    choices = sorted(map(str, promised))
    hint = did_you_mean(str(name), choices)
    of_step = sorted({each.figure for each in promised if (each.step, each.model) == (name.step, name.model)})
    if not hint and of_step:
        hint = f"; it gives {', '.join(of_step)}"
    return f"no step measures {name}{hint}"
