"""TorchServe's inference API: /predictions with an image, a text, rows or tensors as the body, and /ping.

A body is what `curl -T FILE`, `curl -F data=@FILE`, `curl -d` or a client's JSON sends. The answer is what the model's
outputs mean: one object for one row, a list for a list of rows.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Catalogue, Live
from mlctl.serving.http.messages import JSON, Drop, Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.protocols.answering import answer_each
from mlctl.serving.protocols.bodies import in_json
from mlctl.serving.protocols.given_rows import GivenRows
from mlctl.serving.protocols.large_bodies import read_whole
from mlctl.serving.protocols.natural_bodies import ANY_BODY, from_body
from mlctl.serving.protocols.reading_aside import read_then
from mlctl.serving.refusals import Refused

TAG: Final = "TorchServe"

_TYPES: Final = {
    400: "BadRequestException",
    401: "InvalidKeyException",
    403: "InvalidKeyException",
    404: "ModelNotFoundException",
    405: "MethodNotAllowedException",
    409: "ConflictStatusException",
    413: "RequestEntityTooLargeException",
    415: "UnsupportedMediaTypeException",
    429: "TooManyRequestsException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
    504: "RequestTimeoutException",
}
_HEALTH: Final = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": ["Healthy", "Unhealthy"]}},
}
_MEANT: Final = {
    "type": ["object", "array"],
    "description": "A label with its probability and those of all labels, a number, or what else the model is for.",
}


def routes(catalogue: Catalogue) -> tuple[Route, ...]:
    """The routes of predictions, and of the server's health."""
    predict = partial(_predict, catalogue)
    found = [_ping_route(catalogue)]
    for path in ("/predictions/{model}", "/predictions/{model}/{version}"):
        operation = Operation("What the model says of a natural input", TAG, ANY_BODY, {200: {JSON: _MEANT}})
        found += [Route(method, path, predict, "infer", refusal, operation) for method in ("POST", "PUT")]
    return tuple(found)


def refusal(refused: Refused) -> Response:
    """`{"code": ..., "type": ..., "message": ...}`."""
    kind = _TYPES.get(refused.status, "BadRequestException")
    return in_json({"code": refused.status, "type": kind, "message": refused.what}, refused.status)


def meanings(live: Live, parts: list[Arrays]) -> list[Any]:
    """What every row's outputs mean."""
    return [meant for outputs in parts for meant in live.natural.meant(outputs)]


def _predict(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> Drop:
    live = catalogue.find(parameters["model"], parameters.get("version"))

    def go_on(given: GivenRows) -> Drop:
        def written(outputs: list[Arrays]) -> Response:
            found = meanings(live, outputs)
            return in_json(found[0] if given.is_one else found)

        return answer_each(live, given.parts, request, respond, written=written, refusal=refusal)

    def read() -> GivenRows:
        media = request.headers.get("content-type", "")
        return read_whole(len(request.body), lambda: from_body(live, request.body, media))

    return read_then(live, request, respond, read=read, go_on=go_on, refusal=refusal)


def _ping_route(catalogue: Catalogue) -> Route:
    answers = {200: {JSON: _HEALTH}, 503: {JSON: _HEALTH}}
    operation = Operation("Whether the server takes requests (TorchServe, SageMaker, MLflow)", TAG, None, answers)
    return Route("GET", "/ping", partial(_ping, catalogue), "open", refusal, operation)


def _ping(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    respond(in_json({"status": "Healthy"}) if catalogue.is_ready else in_json({"status": "Unhealthy"}, 503))
