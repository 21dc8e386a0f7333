"""`mlctl prune --sensitivity`: the model is trained where it was not yet, and units of each layer are taken out."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mlctl.cli.exploring import Exploration
from mlctl.cli.output import Output
from mlctl.cli.session import Session
from mlctl.engine.making import RunOptions
from mlctl.engine.verdict import Verdict
from mlctl.errors import UsageError
from mlctl.events import Tell
from mlctl.recipe.prune import StructuredPruning
from mlctl.stages.layer_curves import LayerQuestion, LayerVerdict, image_path

STAGE = "prune"


def show_sensitivity(session: Session, options: RunOptions, output: Output, image: Path | None) -> int:
    """Show every layer's curve for the recipe's structured pruning, and return the exit code; nothing is pruned.

    `image` is the file that the curves are drawn into; it lies in the store where this is None. Raises UsageError
    where no file can be written there, where the recipe has no structured pruning or several with one image, and for
    code that is not allowed.
    """
    session.needed_for(STAGE)
    exploration = Exploration(STAGE, StructuredPruning, session, options, output, image)
    exploration.require_possible()
    if not exploration.steps:
        raise UsageError(
            "no prune step of the recipe takes out units", where=session.path, next="give one `method: structured`"
        )

    def found(folders: Mapping[str, Path], tell: Tell) -> Verdict:
        from mlctl.stages.layer_sensitivity import layer_sensitivity

        questions = tuple(_questions(exploration, folders))
        return layer_sensitivity(session.path, questions, session.recipe.seed, options, tell)

    verdict = exploration.verdict(found)
    if isinstance(verdict, LayerVerdict) and not output.as_json:
        from mlctl.cli.layers_view import show_layers

        show_layers(verdict.curves)
    return output.finish(verdict)


def _questions(exploration: Exploration, folders: Mapping[str, Path]) -> Iterator[LayerQuestion]:
    for step in exploration.steps:
        settings = exploration.session.recipe.step(step.name).settings
        assert isinstance(settings, StructuredPruning)
        model, data = (folders[step.stage.inputs()[role].name] for role in ("model", "data"))
        yield LayerQuestion(step.name, settings, model, data, exploration.image_of(step.name, image_path))
