"""serve: settings, and the graph that they are for. It makes no artifact, and is no step of a run."""

from dataclasses import dataclass

from mlctl.engine.plan import Life
from mlctl.engine.stage import Step
from mlctl.errors import UsageError
from mlctl.recipe.recipe import Recipe
from mlctl.recipe.serve import ServeSettings
from mlctl.stages.artifacts import OnnxModel
from mlctl.stages.wiring import Above, WiringError, makes

STAGE = "serve"


def wired(settings: ServeSettings, above: Above) -> None:
    """See that there is a graph to serve. Raises WiringError."""
    above.exported(settings.from_)


@dataclass(frozen=True)
class Served:
    """A step's graph, and how it is served."""

    settings: ServeSettings
    model: Step[OnnxModel]


def served(recipe: Recipe, life: Life, named: str | None = None) -> Served:
    """What the recipe serves: the graph of its serve step, or its last graph where it has none.

    `named` is one of several serve steps, or a step whose graph takes the place of the serve step's own. Raises
    UsageError where there is no such step, no graph, or more than one serve step to choose from.
    """
    choices = {step.name: step.settings for step in recipe.steps if isinstance(step.settings, ServeSettings)}
    if named is not None and named not in choices:
        model = life.step(named)
        if not makes(model, OnnxModel):
            graphs = [*choices, *(step.name for step in life.steps if makes(step, OnnxModel))]
            raise UsageError(
                f"{named} makes no ONNX model", where=recipe.path, next=f"name one of: {', '.join(graphs) or 'none'}"
            )
        return Served(next(iter(choices.values())) if len(choices) == 1 else ServeSettings(), model)
    if named is None and len(choices) > 1:
        raise UsageError(
            f"the recipe has {len(choices)} serve steps",
            where=recipe.path,
            next=f"name one with `--step`: {', '.join(choices)}",
        )
    name = named or next(iter(choices), None)
    settings = choices[name] if name else ServeSettings()
    return Served(settings, _graph(recipe, life, name, settings.from_))


def _graph(recipe: Recipe, life: Life, name: str | None, from_: str | None) -> Step[OnnxModel]:
    """The graph that stands above the serve step `name`, or at the recipe's end."""
    names = [step.name for step in recipe.steps]
    below = set(names[names.index(name) :]) if name else set()
    steps = [step for step in life.steps if step.name not in below]
    try:
        return Above(recipe, steps, name or STAGE).exported(from_)
    except WiringError as error:
        raise UsageError(
            f"there is nothing to serve: {error}", where=recipe.path, next="add an `export:` key to the recipe"
        ) from None
