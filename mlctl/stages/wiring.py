"""Which steps a step reads: the nearest ones above that fit, unless the recipe names others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from mlctl.engine.stage import Step
from mlctl.recipe.prepare import DataSettings
from mlctl.recipe.recipe import Recipe
from mlctl.stages.artifacts import Data, Model, OnnxModel, TrainedModel

T = TypeVar("T")
KINDS = {Data: "prepared data", TrainedModel: "a trained model", OnnxModel: "an ONNX model", Model: "a model"}


class WiringError(Exception):
    """A step cannot be given what it reads; `key` is the setting to blame."""

    def __init__(self, key: str | None, what: str) -> None:
        super().__init__(what)
        self.key = key


@dataclass(frozen=True)
class Above:
    """What stands above a step in its recipe."""

    recipe: Recipe
    steps: Sequence[Step[Any]]
    name: str
    """The step's own name."""

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
        """Every step that makes a model, in order. Raises WiringError when there is none."""
        found = tuple(step for step in self.steps if makes(step, Model))
        if not found:
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
        """Whether a step above has this name."""
        return any(step.name == name for step in self.steps)

    def task(self, data: Step[Data]) -> str:
        """The task that the data was prepared for."""
        settings = self.recipe.step(data.name).settings
        assert isinstance(settings, DataSettings)
        return settings.task

    def network(self, model: Step[Any]) -> str:
        """The network that a step trains, as its recipe names it; no text where it trains none."""
        network = getattr(self.recipe.step(model.name).settings, "model", None)
        return str(getattr(network, "arch", ""))

    def _find(self, kind: type[T], named: str | None, key: str) -> Step[T]:
        if named is None:
            for step in reversed(self.steps):
                if makes(step, kind):
                    return cast("Step[T]", step)
            raise WiringError(None, f"no step above makes {KINDS[kind]}")
        for step in self.steps:
            if step.name == named:
                if makes(step, kind):
                    return cast("Step[T]", step)
                raise WiringError(key, f"{named!r} does not make {KINDS[kind]}")
        raise WiringError(key, f"no step above is named {named!r}")


def makes(step: Step[Any], kind: type[Any]) -> bool:
    """Whether the step's artifact is of that kind."""
    return isinstance(step.stage.open(Path()), kind)
