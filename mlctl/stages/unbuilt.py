"""Stages that the recipe language has and this release does not: they can be wired and named, and never run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlctl.digests import Json
from mlctl.engine.figures import Figure, Promise
from mlctl.engine.stage import Stage, Step, Work
from mlctl.recipe.serve import ServeSettings
from mlctl.stages.wiring import Above


class Unbuilt(Stage[Any]):
    """Stands in a recipe for a stage that is not built."""

    revision = 0

    @property
    def title(self) -> str:
        """What a message calls it."""
        return f"the stage {self.name}"

    def __init__(self, inputs: Mapping[str, Step[Any]], artifact: type[Any] | None) -> None:
        self._inputs = inputs
        self._artifact = artifact

    def settings(self) -> Mapping[str, Json]:
        """None that matter."""
        return {}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """What the stage would read."""
        return self._inputs

    def promises(self) -> tuple[Promise, ...]:
        """Nothing."""
        return ()

    def run(self, work: Work) -> tuple[Figure, ...]:
        """Never called: `check_built` refuses the recipe before anything starts."""
        raise AssertionError(self.name)

    def open(self, folder: Path) -> Any:
        """The kind of artifact that the stage would make."""
        return self._artifact(folder) if self._artifact else None


class Serve(Unbuilt):
    """A graph in, answers out; no artifact."""

    name = "serve"

    @classmethod
    def wired(cls, settings: ServeSettings, above: Above) -> "Serve":
        """The stage as a recipe asks for it."""
        return cls({"model": above.exported(settings.from_)}, None)
