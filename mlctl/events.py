"""What happens, as data. Whoever works tells; only the command line draws."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True)
class StepStarted:
    """A step begins; `reasons` say why it is not reused."""

    step: str
    outcome: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class StepReused:
    """The store already holds the step's artifact."""

    step: str


@dataclass(frozen=True)
class StepFinished:
    """A step's artifact is in the store."""

    step: str
    seconds: float


@dataclass(frozen=True)
class StepAborted:
    """A step could not succeed."""

    step: str
    what: str


@dataclass(frozen=True)
class StepSkipped:
    """A step is left out, because what it needs failed or the run was stopped."""

    step: str


@dataclass(frozen=True)
class Waiting:
    """Another process is making the artifact that this one wants."""

    step: str


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of `what`; `detail` is a short text such as `epoch 3/30  loss 0.127`.

    `rate` counts units per second and `left` is in seconds; both are None while they are not known.
    """

    what: str
    done: int
    total: int
    unit: str
    detail: str = ""
    rate: float | None = None
    left: float | None = None


@dataclass(frozen=True)
class Note:
    """Something worth a line."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Something that a person should look at, though the work goes on."""

    text: str


Event: TypeAlias = (
    StepStarted | StepReused | StepFinished | StepAborted | StepSkipped | Waiting | Progress | Note | Warned
)
Tell: TypeAlias = Callable[[Event], None]


def silent(event: Event) -> None:
    """A `Tell` for callers that do not listen."""
