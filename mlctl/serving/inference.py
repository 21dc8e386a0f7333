"""One request's rows on their way through a model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mlctl.runtime.answers import Arrays
from mlctl.serving.refusals import Refused

Answered: TypeAlias = Callable[[Arrays | Refused], None]
"""Called once, on the event loop, with every output of the graph [n, ...] in its order, or with why there is none."""


@dataclass(slots=True, eq=False)
class Inference:
    """Rows that want an answer. Inputs are C-ordered, in the order and of the dtypes of the model's ports."""

    inputs: Arrays
    """[n, ...] each, n the same in all and at least 1."""
    answered: Answered
    deadline: float
    """By `time.monotonic`, which event loops count by; after it the rows are not computed any more."""
    arrived: float = 0.0
    """By the same clock; set by who takes it in."""
    is_dropped: bool = False
    """Whether the caller has gone: nothing is to be computed any more, and nobody is to be told."""

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.inputs[0])
