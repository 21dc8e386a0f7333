"""Where a teacher comes from: a step of the recipe, an ONNX file beside it, or a server."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlctl.digests import Json
from mlctl.engine.stage import Step
from mlctl.errors import UsageError
from mlctl.graphs.external_files import model_files
from mlctl.recipe.wiring import is_model_file
from mlctl.runtime.served_address import ServedAddress
from mlctl.stages.artifacts import Data, Model, TrainedModel
from mlctl.stages.wiring import Above, WiringError, makes


@dataclass(frozen=True)
class TeacherSource:
    """One of the three; the other two are None."""

    step: Step[Model] | None = None
    file: Path | None = None
    url: str | None = None

    @classmethod
    def wired(cls, named: str, data: Step[Data], above: Above) -> "TeacherSource":
        """What `teacher:` names. Raises WiringError for a step that makes no model or one for another task, for a file
        that is not there, and for what is no served model's address."""
        if above.has(named):
            return cls(step=_step(named, data, above))
        if "://" in named:
            try:
                return cls(url=ServedAddress.parse(named).url)
            except UsageError as error:
                raise WiringError("teacher", f"{error.what}; {error.next}") from error
        if not is_model_file(named):
            raise WiringError("teacher", f"no step above is named {named!r}")
        path = above.base / named
        if not path.is_file():
            raise WiringError("teacher", f"there is no file {named!r} beside the recipe")
        return cls(file=path)

    @property
    def is_network(self) -> bool:
        """Whether it is a network of torch, whose layers can be looked at."""
        return self.step is not None and makes(self.step, TrainedModel)

    @property
    def imports_code(self) -> bool:
        """Whether to open it imports code that the recipe names."""
        return self.step is not None and self.step.stage.imports_code

    def settings(self) -> Mapping[str, Json]:
        """What a fingerprint knows of it beside inputs and sources: the address of a served one."""
        return {"url": self.url} if self.url else {}

    def inputs(self) -> Mapping[str, Step[Any]]:
        """The step, under the role `teacher`."""
        return {"teacher": self.step} if self.step else {}

    def sources(self) -> tuple[Path, ...]:
        """The ONNX file, and its external data."""
        return model_files(self.file) if self.file else ()


def _step(named: str, data: Step[Data], above: Above) -> Step[Model]:
    step = next(each for each in above.steps if each.name == named)
    if not makes(step, Model):
        raise WiringError("teacher", f"{named!r} does not make a model")
    learnt, wanted = above.task(above.data_of(step)), above.task(data)
    if learnt != wanted:
        raise WiringError("teacher", f"{named} is for {learnt}, {data.name} holds data for {wanted}")
    return step
