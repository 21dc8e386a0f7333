"""From inputs to an answer, in whatever protocol they came."""

from collections.abc import Callable, Sequence
from functools import partial

from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Live
from mlctl.serving.http.messages import Drop, Request, Respond, Response
from mlctl.serving.http.refusing import with_headers
from mlctl.serving.inference import Inference
from mlctl.serving.refusals import Refused, TooLarge


def answer(
    live: Live,
    inputs: Arrays,
    request: Request,
    respond: Respond,
    *,
    written: Callable[[Arrays], Response],
    refusal: Callable[[Refused], Response],
) -> Drop:
    """Let the model compute, and answer with what `written` makes of its outputs. Raises Busy."""

    def answered(found: Arrays | Refused) -> None:
        respond(with_headers(refusal(found), found) if isinstance(found, Refused) else written(found))

    _note(request, live)
    inference = Inference(inputs, answered, request.received + live.timeout_seconds, request.received)
    live.submit(inference)
    return lambda: _drop((inference,))


def answer_each(
    live: Live,
    parts: Sequence[Arrays],
    request: Request,
    respond: Respond,
    *,
    written: Callable[[list[Arrays]], Response],
    refusal: Callable[[Refused], Response],
) -> Drop:
    """As `answer`, for parts that may be computed apart, as texts of different length are; at least one.

    The first refusal answers for all, and the other parts are dropped. Raises Busy, TooLarge.
    """
    require_room(live, len(parts))
    found: list[Arrays | None] = [None] * len(parts)
    inferences: list[Inference] = []
    left = len(parts)

    def take(place: int, outputs: Arrays | Refused) -> None:
        nonlocal left
        if isinstance(outputs, Refused):
            if left > 0:
                left = 0
                _drop(inferences)
                respond(with_headers(refusal(outputs), outputs))
            return
        found[place] = outputs
        left -= 1
        if left == 0:
            respond(written([each for each in found if each is not None]))

    _note(request, live)
    deadline = request.received + live.timeout_seconds
    for place, part in enumerate(parts):
        if left == 0:
            break
        inference = Inference(part, partial(take, place), deadline, request.received)
        inferences.append(inference)
        try:
            live.submit(inference)
        except Refused:
            left = 0
            _drop(inferences)
            raise
    return lambda: _drop(inferences)


def require_room(live: Live, count: int) -> None:
    """Raise TooLarge for more parts of one request than may wait: Busy would have its caller come again for ever."""
    if count > live.queue:
        raise TooLarge(
            f"a request holds at most {live.queue:,} texts here, or other parts that are computed apart, as many as may"
            f" wait for the model: {count:,} need several requests"
        )


def _note(request: Request, live: Live) -> None:
    request.model, request.version = live.signature.name, live.signature.version


def _drop(inferences: Sequence[Inference]) -> None:
    for each in inferences:
        each.is_dropped = True
