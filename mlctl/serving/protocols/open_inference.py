"""The Open Inference Protocol v2 over HTTP, with those of Triton's extensions that `EXTENSIONS` names."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import orjson

import mlctl
from mlctl.recipe import serve_defaults as default
from mlctl.runtime.answers import Arrays
from mlctl.runtime.open_inference import BINARY_EXTENSION
from mlctl.serving.catalogue import Catalogue, Live
from mlctl.serving.http.messages import Drop, Handler, Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route, Scope
from mlctl.serving.protocols import open_inference_schemas as schemas
from mlctl.serving.protocols.answering import answer
from mlctl.serving.protocols.open_inference_answers import write
from mlctl.serving.protocols.open_inference_descriptions import EXTENSIONS, SERVER_NAME, configuration, metadata
from mlctl.serving.protocols.open_inference_plans import Plans
from mlctl.serving.protocols.open_inference_repository import Repository, refusal
from mlctl.serving.protocols.open_inference_requests import Asked, read
from mlctl.serving.refusals import Refused
from mlctl.serving.signature import Signature

_MODEL: Final = "/v2/models/{model}"
_VERSION: Final = "/v2/models/{model}/versions/{version}"


def routes(catalogue: Catalogue, max_batch_size: int = default.MAX_SIZE) -> tuple[Route, ...]:
    """Everything below `/v2`. `max_batch_size` is what the server joins at most, as a model's configuration says it."""
    models, repository = _Models(catalogue, max_batch_size), Repository(catalogue)
    server = (
        _route("GET", "/v2", _server, "open", schemas.SERVER),
        _route("GET", "/v2/health/live", _live, "open", schemas.LIVE),
        _route("GET", "/v2/health/ready", partial(_ready, catalogue), "open", schemas.READY),
        _route("GET", "/v2/models/stats", models.statistics, "infer", schemas.STATISTICS),
        _route("POST", "/v2/repository/index", repository.index, "admin", schemas.INDEX, action="index"),
        _route("POST", "/v2/repository/models/{model}/load", repository.load, "admin", schemas.LOAD, action="load"),
        _route(
            "POST", "/v2/repository/models/{model}/unload", repository.unload, "admin", schemas.UNLOAD, action="unload"
        ),
    )
    each = (
        ("GET", "", models.metadata, schemas.MODEL),
        ("GET", "/ready", models.ready, schemas.MODEL_READY),
        ("GET", "/config", models.configuration, schemas.CONFIGURATION),
        ("GET", "/stats", models.statistics, schemas.STATISTICS),
        ("POST", "/infer", models.infer, schemas.INFER),
    )
    return server + tuple(
        _route(method, f"{path}{ending}", handler, "infer", operation)
        for path in (_MODEL, _VERSION)
        for method, ending, handler, operation in each
    )


class _Models:
    """The calls that name a model."""

    def __init__(self, catalogue: Catalogue, max_batch_size: int) -> None:
        self._catalogue = catalogue
        self._max_batch_size = max_batch_size
        self._plans = Plans()

    def metadata(self, _: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """What a model takes and gives."""
        respond(_json(metadata(self._catalogue, self._find(parameters), parameters.get("version"))))

    def ready(self, _: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """That a model takes requests; it is refused as NotReady where it does not."""
        respond(_json({"name": self._find(parameters).signature.name, "ready": True}))

    def configuration(self, _: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """Triton's description of a model."""
        respond(_json(configuration(self._find(parameters).signature, self._max_batch_size)))

    def statistics(self, _: Request, parameters: Mapping[str, str], respond: Respond) -> None:
        """What became of the requests of a version, of a model's versions, or of all."""
        # Nobody who asks for answers waits for the figures' import.
        from mlctl.serving.protocols.open_inference_statistics import statistics_of

        found = statistics_of(self._catalogue, parameters.get("model", ""), parameters.get("version", ""))
        respond(_json({"model_stats": [each.as_json() for each in found]}))

    def infer(self, request: Request, parameters: Mapping[str, str], respond: Respond) -> Drop:
        """The answer to tensors."""
        live = self._find(parameters)
        asked = read(request, live.signature, self._plans)
        written = partial(_written, live.signature, asked)
        return answer(live, asked.inputs, request, respond, written=written, refusal=refusal)

    def _find(self, parameters: Mapping[str, str]) -> Live:
        return self._catalogue.find(parameters["model"], parameters.get("version"))


def _written(signature: Signature, asked: Asked, outputs: Arrays) -> Response:
    try:
        return write(signature, asked, outputs)
    except Refused as refused:
        return refusal(refused)


def _server(_: Request, __: Mapping[str, str], respond: Respond) -> None:
    extensions = sorted((*EXTENSIONS, BINARY_EXTENSION))
    respond(_json({"name": SERVER_NAME, "version": mlctl.__version__, "extensions": extensions}))


def _live(_: Request, __: Mapping[str, str], respond: Respond) -> None:
    respond(_json({"live": True}))


def _ready(catalogue: Catalogue, _: Request, __: Mapping[str, str], respond: Respond) -> None:
    respond(_json({"ready": catalogue.is_ready}, 200 if catalogue.is_ready else 503))


def _json(said: dict[str, Any], status: int = 200) -> Response:
    return Response(status, orjson.dumps(said))


def _route(method: str, path: str, handler: Handler, scope: Scope, operation: Operation, *, action: str = "") -> Route:
    return Route(method, path, handler, scope, refusal, operation, action=action)
