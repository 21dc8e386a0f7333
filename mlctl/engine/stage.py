"""The stage contract: what the engine asks of a kind of work, and what it gives it."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from mlctl.digests import Json
from mlctl.engine.company import ALONE, Company
from mlctl.engine.figures import Figure, Promise
from mlctl.events import Tell

ArtifactT_co = TypeVar("ArtifactT_co", covariant=True)
OpenedT = TypeVar("OpenedT")


class Stage(ABC, Generic[ArtifactT_co]):
    """One kind of work, with the settings and the input steps of one step of a recipe.

    A stage knows nothing of the store, the terminal or other stages: it is told a folder to fill. What it
    writes must follow from its settings, inputs and sources alone, timings aside.
    """

    name: ClassVar[str]
    revision: ClassVar[int]
    """Raised whenever the same settings and inputs give other bytes than before."""
    is_shared_work: ClassVar[bool] = False
    """Whether all processes of a company run the step at once; else one of them makes it and the others wait."""

    @abstractmethod
    def settings(self) -> Mapping[str, Json]:
        """All settings that decide the bytes, defaults written out."""

    def inputs(self) -> Mapping[str, "Step[Any]"]:
        """The steps whose artifacts this one reads, by the role that each plays."""
        return {}

    def sources(self) -> tuple[Path, ...]:
        """The files outside the store that this step reads."""
        return ()

    @property
    def is_reproducible(self) -> bool:
        """Whether every file's bytes follow from settings and inputs; not so where timings are kept, or decide."""
        return True

    @property
    def imports_code(self) -> bool:
        """Whether the step, and whoever reads its artifact, imports code that the recipe names."""
        return False

    @abstractmethod
    def promises(self) -> tuple[Promise, ...]:
        """The figures that `run` will measure."""

    def conditions(self) -> tuple[str, ...]:
        """The step's own gates, over bare figure names: `parity <= 0.0001`."""
        return ()

    @abstractmethod
    def run(self, work: "Work") -> tuple[Figure, ...]:
        """Fill `work.folder` and return what was measured."""

    @abstractmethod
    def open(self, folder: Path) -> ArtifactT_co:
        """The artifact in `folder`, as the next stage wants it."""


@dataclass(frozen=True)
class Step(Generic[ArtifactT_co]):
    """One use of a stage in a recipe."""

    name: str
    stage: Stage[ArtifactT_co]


@dataclass(frozen=True)
class Work:
    """Everything that a stage is given to work with."""

    folder: Path
    """Empty; what is in it when `run` returns becomes the artifact."""
    resume: Path
    """Private to this artifact; it outlives a kill and goes when the artifact is published. That of a process which
    follows is empty, and goes with the process."""
    fingerprint: str
    device: str
    """auto, cpu, cuda:N or tensorrt:N."""
    threads: int
    choices: dict[str, str]
    """What the stage chose by itself, and why, such as the device that `auto` came to; it goes into the manifest."""
    code: Path | None
    """Where code that the recipe names may be imported from; None where none may run."""
    tell: Tell
    folders: Mapping[str, Path]
    fingerprints: Mapping[str, str]
    figures: Mapping[str, tuple[Figure, ...]]
    """Folder, fingerprint and figures of every input, by step name."""
    company: Company = ALONE
    """The processes that work on a shared step together."""

    def artifact(self, step: Step[OpenedT]) -> OpenedT:
        """The artifact of an input step, verified to be the one that was written."""
        return step.stage.open(self.folders[step.name])
