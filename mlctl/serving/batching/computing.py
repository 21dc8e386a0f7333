"""A batch through the model, and what becomes of its requests where it fails."""

from dataclasses import dataclass
from time import perf_counter

from mlctl.errors import MlctlError, OutOfMemory
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Running
from mlctl.serving.batching.joining import join, split
from mlctl.serving.batching.layout import Layout
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.refusals import Broken, Malformed, Refused

_OF_THE_RUNTIME = (MemoryError, RuntimeError, TypeError, ValueError)
"""What the bindings of runtimes raise by themselves, such as for a string that is no valid Unicode."""


@dataclass(slots=True)
class Computed:
    """Requests that were one batch, with their answers; or one, with why it has none."""

    batch: list[Waiting]
    answers: list[Arrays] | Refused
    seconds: float

    @property
    def rows(self) -> int:
        """Of all requests."""
        return sum([each.rows for each in self.batch])


@dataclass(frozen=True)
class Model:
    """A loaded graph that answers requests in batches; several threads may call it at once."""

    session: Running
    layout: Layout
    known_good: Arrays | None = None
    """A row that it answered when it was loaded; None where none could be made."""

    def compute(self, batch: list[Waiting]) -> list[Computed]:
        """The answers to a batch of requests, at least one, in batches that succeeded and requests that did not.

        A batch that fails is computed again in halves, so that a request that the model cannot take costs the others
        no answer.
        """
        began = perf_counter()
        try:
            answers = split(self.session.all(join(batch, self.layout)), batch, self.layout)
        except (MlctlError, *_OF_THE_RUNTIME) as error:
            if len(batch) == 1:
                return [Computed(batch, self._refusal(error), perf_counter() - began)]
            middle = len(batch) // 2
            return [*self.compute(batch[:middle]), *self.compute(batch[middle:])]
        return [Computed(batch, answers, perf_counter() - began)]

    def _refusal(self, error: Exception) -> Refused:
        """The request is at fault where the model still answers what it answered before."""
        if isinstance(error, MemoryError | OutOfMemory):
            return Broken("there is no memory for this request")
        what = error.what if isinstance(error, MlctlError) else str(error)
        if self.known_good is None:
            return Broken(what)
        try:
            self.session.all(self.known_good)
        except (MlctlError, *_OF_THE_RUNTIME):
            return Broken(what)
        return Malformed(f"the model does not take these inputs: {what}")
