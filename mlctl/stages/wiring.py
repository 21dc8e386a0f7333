"""Which steps a step reads: the nearest ones above that fit, unless the recipe names others."""

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from mlctl.engine.stage import Step
from mlctl.recipe.distill import DistillSettings
from mlctl.recipe.prepare import DataSettings, ImageClassificationData
from mlctl.recipe.recipe import Recipe
from mlctl.stages.artifacts import Data, Model, OnnxModel, TrainedModel

T = TypeVar("T")
KINDS = {Data: "prepared data", TrainedModel: "a trained model", OnnxModel: "an ONNX model", Model: "a model"}
MADE_BY = {
    Data: ("prepare",),
    TrainedModel: ("train", "prune", "distill"),
    OnnxModel: ("export", "quantize"),
    Model: ("train", "prune", "distill", "export", "quantize"),
}
"""The stages that make each kind."""


class WiringError(Exception):
    """A step cannot be given what it reads; `key` is the setting to blame, keys within it after dots.

    `others` are what else is wrong with the step.
    """

    def __init__(self, key: str | None, what: str, others: "Sequence[WiringError]" = ()) -> None:
        super().__init__(what)
        self.key = key
        self.others = tuple(others)


class Unwired(WiringError):
    """A step reads what a step above it would have made, had that one been right: that one's problem, not its own."""


def require_all(*checks: Callable[[], None]) -> None:
    """Make every check; raise one WiringError for all that they find, Unwired only where they find nothing else."""
    found: list[WiringError] = []
    for check in checks:
        try:
            check()
        except WiringError as error:
            found += [error, *error.others]
    own = [each for each in found if not isinstance(each, Unwired)]
    if own:
        raise WiringError(own[0].key, str(own[0]), own[1:])
    if found:
        raise found[0]


@dataclass(frozen=True)
class Above:
    """What stands above a step in its recipe."""

    recipe: Recipe
    steps: Sequence[Step[Any]]
    name: str
    """The step's own name."""
    unwired: Set[str] = frozenset()
    """Names of steps above that have problems of their own; they are not among `steps`."""

    @property
    def base(self) -> Path:
        """The recipe's folder, from which its paths start."""
        return self.recipe.path.parent

    @property
    def seed(self) -> int:
        """The recipe's seed."""
        return self.recipe.seed

    def data(self, named: str | None) -> Step[Data]:
        """The prepare step that `data:` names, or the nearest one."""
        return self._find(Data, named, "data")

    def trained(self, named: str | None) -> Step[TrainedModel]:
        """The trained model that `from:` names, or the nearest one."""
        return self._find(TrainedModel, named, "from")

    def exported(self, named: str | None) -> Step[OnnxModel]:
        """The ONNX model that `from:` names, or the nearest one."""
        return self._find(OnnxModel, named, "from")

    def models(self) -> tuple[Step[Model], ...]:
        """Every step that makes a model and has no problems, in order. Raises WiringError when there is none."""
        found = tuple(step for step in self.steps if makes(step, Model))
        if not found:
            self._require_wired(Model)
            raise WiringError(None, "no step above makes a model")
        return found

    def data_of(self, model: Step[Any]) -> Step[Data]:
        """The prepared data that a model learnt from."""
        for step in model.stage.inputs().values():
            if makes(step, Data):
                return step
        for step in model.stage.inputs().values():
            return self.data_of(step)
        raise WiringError("from", f"{model.name} has no data")

    def has(self, name: str) -> bool:
        """Whether a step above has this name. Raises Unwired for one that has problems."""
        if name in self.unwired:
            raise Unwired(None, f"{name} has problems")
        return any(step.name == name for step in self.steps)

    def task(self, data: Step[Data]) -> str:
        """The task that the data was prepared for."""
        settings = self.recipe.step(data.name).settings
        assert isinstance(settings, DataSettings)
        return settings.task

    def image_size(self, data: Step[Data]) -> tuple[int, int] | None:
        """Height and width of the images that the data holds; None where it holds none."""
        settings = self.recipe.step(data.name).settings
        return settings.image.shape[1:] if isinstance(settings, ImageClassificationData) else None

    def network(self, model: Step[Any]) -> str:
        """The network that a step trains, or goes on with, as its recipe names it; no text where there is none."""
        settings = self.recipe.step(model.name).settings
        network = settings.student if isinstance(settings, DistillSettings) else getattr(settings, "model", None)
        if network is not None:
            return str(getattr(network, "arch", ""))
        inputs = model.stage.inputs()
        parent = inputs.get("model") or inputs.get("student")
        return self.network(parent) if parent else ""

    def _find(self, kind: type[T], named: str | None, key: str) -> Step[T]:
        if named is None:
            self._require_wired(kind)
            for step in reversed(self.steps):
                if makes(step, kind):
                    return cast("Step[T]", step)
            raise WiringError(None, f"no step above makes {KINDS[kind]}")
        if not self.has(named):
            raise WiringError(key, f"no step above is named {named!r}")
        step = next(each for each in self.steps if each.name == named)
        if not makes(step, kind):
            raise WiringError(key, f"{named!r} does not make {KINDS[kind]}")
        return cast("Step[T]", step)

    def _require_wired(self, kind: type[Any]) -> None:
        """Raise Unwired where a step with problems might be the one that makes this."""
        for name in self.unwired:
            if name.partition(".")[0] in MADE_BY[kind]:
                raise Unwired(None, f"{name} has problems")


def makes(step: Step[Any], kind: type[Any]) -> bool:
    """Whether the step's artifact is of that kind."""
    return isinstance(step.stage.open(Path()), kind)
