"""The models that a server has, as protocols see them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

from mlctl.serving.inference import Inference
from mlctl.serving.natural.values import Natural
from mlctl.serving.signature import Signature
from mlctl.serving.telemetry.statistics import ModelStatistics

State: TypeAlias = Literal["loading", "ready", "unavailable"]


@dataclass(frozen=True)
class Entry:
    """One version that the server knows of, and why it is not ready, if it is not."""

    name: str
    version: int
    state: State
    reason: str = ""
    is_refused: bool = False
    """Whether it was tried and found wrong; a version that nobody wants loaded is not."""


class Live(Protocol):
    """One version of a model that takes requests."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""

    @property
    def statistics(self) -> ModelStatistics:
        """What became of its requests."""

    @property
    def natural(self) -> Natural:
        """What may be sent in place of tensors."""

    @property
    def timeout_seconds(self) -> float:
        """How long a request may take, from its arrival to its answer."""

    @property
    def queue(self) -> int:
        """Inferences that may wait at the same time."""

    def hold(self) -> Callable[[], None]:
        """Let it stay, for a request that is still being read, until what this gives is called, once."""

    def submit(self, inference: Inference) -> None:
        """Take the rows in; `inference.answered` is called later, or at once. Raises Busy where the queue is full."""


class Catalogue(Protocol):
    """What is loaded, and what could be."""

    @property
    def is_ready(self) -> bool:
        """Whether all that was to be live when the server began is or was, a model takes requests, and it does not end.

        What came or went later concerns that model alone.
        """

    @property
    def names(self) -> tuple[str, ...]:
        """Of all models."""

    def live(self) -> tuple[Live, ...]:
        """Every version that takes requests, by name and number."""

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Live:
        """The version that is asked for; the one that is live where neither a version nor a label is named.

        Raises Unknown for what there is not, NotReady for what does not take requests now.
        """

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        """All versions of all models, or of one, by name and version. Raises Unknown for a model that there is not."""

    async def load(self, name: str, version: str | None = None) -> None:
        """Let a version take requests: the newest, or the one that its label names, where none is given; and load
        again one that is there.

        Raises Unknown, NotReady with the reason where it could not be loaded or did not answer its golden requests.
        """

    async def unload(self, name: str, version: str | None = None) -> None:
        """Let a version, or all, take no more requests; what was accepted is finished. Raises Unknown."""
