"""One request that was taken, on its way to its answer."""

from collections.abc import Callable

from mlctl.serving.http.messages import Drop, Response
from mlctl.serving.http.reading import Arrived


class Exchange:
    """A request that was taken, and its answer when there is one. Calling it answers."""

    __slots__ = ("_flush", "accepted", "drop", "held", "is_head", "is_last", "is_old", "is_refusal", "response")

    def __init__(self, flush: Callable[[], None], arrived: Arrived | None) -> None:
        self._flush: Callable[[], None] | None = flush
        self.response: Response | None = None
        self.drop: Drop | None = None
        self.is_refusal = arrived is None
        if arrived is None:
            self.is_last, self.is_old, self.is_head, self.held, self.accepted = True, False, False, 0, ""
        else:
            request, self.is_last, self.is_old, self.held = arrived
            self.is_head = request.method == "HEAD"
            self.accepted = request.headers.get("accept-encoding", "")

    @property
    def is_abandoned(self) -> bool:
        """Whether nobody waits for an answer any more."""
        return self._flush is None

    def __call__(self, response: Response) -> None:
        """Answer; an answer after the caller has gone, or a second one, is thrown away."""
        flush = self._flush
        if flush is not None and self.response is None:
            self.response = response
            self.drop = None
            flush()

    def abandon(self) -> None:
        """The caller has gone."""
        self._flush = None
        if self.response is None and self.drop is not None:
            self.drop()
        self.drop = None
