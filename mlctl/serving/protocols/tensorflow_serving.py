"""TensorFlow Serving's REST API v1: a model's status and metadata, and :predict, :classify and :regress.

As https://www.tensorflow.org/tfx/serving/api_rest describes it, except that JSON is strict: what is not finite is null
in an answer, and is not taken in a request. A model has one signature, `serving_default`. The content type of a request
is not looked at, as TensorFlow Serving does not.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.catalogue import Catalogue, Entry, Live
from mlctl.serving.http.messages import Drop, Handler, Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.protocols import tensorflow_serving_schemas as schemas
from mlctl.serving.protocols.answering import answer_each
from mlctl.serving.protocols.bodies import in_json
from mlctl.serving.protocols.given_rows import GivenRows, from_columns, from_instances
from mlctl.serving.protocols.json_tensors import decoded
from mlctl.serving.protocols.large_bodies import read_whole, require_rows
from mlctl.serving.protocols.nested_tensors import Jsonable, in_columns, in_rows
from mlctl.serving.protocols.open_inference_tensors import open_shape, quoted
from mlctl.serving.protocols.reading_aside import read_then
from mlctl.serving.protocols.tensorflow_serving_examples import (
    classes,
    from_examples,
    regressions,
    require_classes,
    require_regression,
)
from mlctl.serving.refusals import Malformed, Refused, Unknown

Find: TypeAlias = Callable[[Mapping[str, str]], Live]
"""The version that the parts of a path name."""
Written: TypeAlias = Callable[[list[Arrays]], Response]
Computed: TypeAlias = Callable[[Live, dict[str, Any]], tuple[GivenRows, Written]]
"""What a verb makes of a request's body: rows, and what their outputs are answered with."""

TAG: Final = "TensorFlow Serving REST v1"
SIGNATURE: Final = "serving_default"

_STATES: Final = {"loading": "LOADING", "ready": "AVAILABLE", "unavailable": "END"}
_DTYPES: Final = {
    "float32": "DT_FLOAT",
    "float64": "DT_DOUBLE",
    "float16": "DT_HALF",
    "bfloat16": "DT_BFLOAT16",
    "object": "DT_STRING",
}
"""TensorFlow's names of those that are not NumPy's in capitals."""


def routes(catalogue: Catalogue) -> tuple[Route, ...]:
    """The routes for a model's live version, for a version by its number, and by its label."""
    found = []
    for place in ("", "/versions/{version}", "/labels/{label}"):
        path = f"/v1/models/{{model}}{place}"
        status, metadata = partial(_status, catalogue), partial(_metadata, catalogue)
        found += [
            _route("GET", path, status, "The state of a model's versions", result=schemas.STATUS),
            _route("GET", f"{path}/metadata", metadata, "What a model takes and gives", result=schemas.METADATA),
        ]
        for verb, compute, summary, body, result in _VERBS:
            handler = partial(_computed, catalogue, compute)
            found.append(_route("POST", f"{path}:{verb}", handler, summary, result=result, body=body))
    return tuple(found)


def refusal(refused: Refused) -> Response:
    """`{"error": ...}`."""
    return in_json({"error": refused.what}, refused.status)


def _route(
    method: str,
    path: str,
    handler: Handler,
    summary: str,
    *,
    result: schemas.Schema,
    body: schemas.Schema | None = None,
) -> Route:
    taken = {"application/json": body} if body else None
    operation = Operation(summary, TAG, taken, {200: {"application/json": result}})
    return Route(method, path, handler, "infer", refusal, operation)


def _find(catalogue: Catalogue, parameters: Mapping[str, str]) -> Live:
    return catalogue.find(parameters["model"], parameters.get("version"), parameters.get("label"))


def _computed(
    catalogue: Catalogue, compute: Computed, request: Request, parameters: Mapping[str, str], respond: Respond
) -> Drop:
    live = _find(catalogue, parameters)

    def go_on(found: tuple[GivenRows, Written]) -> Drop:
        given, written = found
        return answer_each(live, given.parts, request, respond, written=written, refusal=refusal)

    def read() -> tuple[GivenRows, Written]:
        require_rows(request.body, live)
        return read_whole(len(request.body), lambda: compute(live, decoded(request.body)))

    return read_then(live, request, respond, read=read, go_on=go_on, refusal=refusal)


def _predict(live: Live, body: dict[str, Any]) -> tuple[GivenRows, Written]:
    _require_signature(body, "predict")
    if ("instances" in body) == ("inputs" in body):
        raise Malformed("the request holds either 'instances', which are rows, or 'inputs', which are columns")
    if "instances" in body:
        return from_instances(live, body["instances"]), partial(_written, "predictions", in_rows, live)
    return from_columns(live, body["inputs"]), partial(_written, "outputs", in_columns, live)


def _classify(live: Live, body: dict[str, Any]) -> tuple[GivenRows, Written]:
    _require_signature(body, "classify")
    require_classes(live.signature)
    return from_examples(live, body), partial(_written, "results", classes, live)


def _regress(live: Live, body: dict[str, Any]) -> tuple[GivenRows, Written]:
    _require_signature(body, "regress")
    require_regression(live.signature)
    return from_examples(live, body), partial(_written, "results", regressions, live)


def _written(key: str, form: Callable[..., Jsonable], live: Live, outputs: list[Arrays]) -> Response:
    return in_json({key: form(live.signature, outputs)})


def _require_signature(body: Mapping[str, Any], verb: str) -> None:
    """Raise Malformed where another signature is named than the one that there is, by its name or by its method's."""
    name = body.get("signature_name", SIGNATURE)
    if name not in ("", SIGNATURE, f"tensorflow/serving/{verb}"):
        raise Malformed(f"there is no signature {quoted(name)}; a model has the one that is called {SIGNATURE!r}")


def _status(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    name, wanted = parameters["model"], parameters.get("version")
    if "label" in parameters:
        wanted = str(_find(catalogue, parameters).signature.version)
    entries = [each for each in catalogue.entries(name) if wanted in (None, str(each.version))]
    if not entries:
        raise Unknown(f"there is no version {quoted(wanted)} of the model {quoted(name)}")
    respond(in_json({"model_version_status": [_state(entry) for entry in entries]}))


def _state(entry: Entry) -> Jsonable:
    code = "UNAVAILABLE" if entry.state == "unavailable" and entry.reason else "OK"
    return {
        "version": str(entry.version),
        "state": _STATES[entry.state],
        "status": {"error_code": code, "error_message": entry.reason},
    }


def _metadata(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> None:
    signature = _find(catalogue, parameters).signature
    described = {
        "inputs": {port.name: _tensor_info(port) for port in signature.inputs},
        "outputs": {port.name: _tensor_info(port) for port in signature.outputs},
        "method_name": "tensorflow/serving/predict",
    }
    spec = {"name": signature.name, "signature_name": "", "version": str(signature.version)}
    respond(in_json({"model_spec": spec, "metadata": {"signature_def": {"signature_def": {SIGNATURE: described}}}}))


def _tensor_info(port: Port) -> Jsonable:
    sizes = [{"size": str(size), "name": ""} for size in open_shape(port)]
    dtype = _DTYPES.get(port.dtype, f"DT_{port.dtype.upper()}")
    return {"dtype": dtype, "tensor_shape": {"dim": sizes, "unknown_rank": False}, "name": f"{port.name}:0"}


_VERBS: Final[tuple[tuple[str, Computed, str, schemas.Schema, schemas.Schema], ...]] = (
    ("predict", _predict, "The outputs for rows or columns of inputs", schemas.PREDICT, schemas.PREDICTED),
    ("classify", _classify, "The labels and scores of examples", schemas.EXAMPLES, schemas.CLASSIFIED),
    ("regress", _regress, "The values of examples", schemas.EXAMPLES, schemas.REGRESSED),
)
