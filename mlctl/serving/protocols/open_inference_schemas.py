"""JSON Schemas of what the Open Inference Protocol v2 takes and gives over HTTP, for OpenAPI."""

from collections.abc import Mapping
from typing import Any, Final

from mlctl.runtime.open_inference import HEADER_LENGTH
from mlctl.serving.http.messages import JSON, OCTETS
from mlctl.serving.http.routing import Operation
from mlctl.serving.protocols.open_inference_tensors import DATATYPES

TAG: Final = "Open Inference Protocol v2"

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_PARAMETERS: Final = {"type": ["object", "null"]}
_VALUES: Final = {"type": ["array", "null"], "description": "flat and row-major, or nested as the shape is"}


def _object(required: Mapping[str, Any], optional: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {"type": "object", "properties": {**required, **(optional or {})}, "required": list(required)}


def _list(of: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of}


_DATATYPE: Final = {"type": "string", "enum": sorted(DATATYPES.values())}
_DESCRIBED: Final = _object({"name": _TEXT, "datatype": _TEXT, "shape": _list({"type": "integer", "minimum": -1})})
_INPUT: Final = _object(
    {"name": _TEXT, "datatype": _DATATYPE, "shape": _list({"type": "integer", "minimum": 1})},
    {
        "data": _VALUES,
        "parameters": {**_PARAMETERS, "properties": {"binary_data_size": {"type": ["integer", "null"], "minimum": 0}}},
    },
)
_ASKED: Final = _object(
    {"name": _TEXT},
    {
        "parameters": {
            **_PARAMETERS,
            "properties": {"binary_data": {"type": "boolean"}, "classification": _COUNT},
        }
    },
)
_REQUEST: Final = _object(
    {"inputs": {**_list(_INPUT), "minItems": 1}},
    {
        "id": {"type": ["string", "null"]},
        "outputs": {**_list(_ASKED), "type": ["array", "null"]},
        "parameters": {**_PARAMETERS, "properties": {"binary_data_output": {"type": "boolean"}}},
    },
)
_ANSWER: Final = _object(
    {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "outputs": _list(
            _object(
                {"name": _TEXT, "datatype": _DATATYPE, "shape": _list(_COUNT)},
                {"data": {"type": "array"}, "parameters": _PARAMETERS},
            )
        ),
    },
    {"id": _TEXT},
)
_BYTES: Final = {
    "type": "string",
    "format": "binary",
    "description": "JSON of the length that the header Inference-Header-Content-Length says, then the tensors' bytes",
}
_SPENT: Final = _object({"count": _COUNT, "ns": _COUNT})
_STATISTICS: Final = _object(
    {
        "model_stats": _list(
            _object(
                {
                    "name": _TEXT,
                    "version": _TEXT,
                    "last_inference": _COUNT,
                    "inference_count": _COUNT,
                    "execution_count": _COUNT,
                    "inference_stats": {"type": "object", "additionalProperties": _SPENT},
                    "batch_stats": _list(_object({"batch_size": _COUNT, "compute_infer": _SPENT})),
                }
            )
        )
    }
)
_VERSIONED: Final = {
    "type": "object",
    "properties": {
        "parameters": {**_PARAMETERS, "properties": {"version": {"type": ["string", "integer", "null"], "minimum": 1}}}
    },
}
_LENGTH: Final = {
    "name": HEADER_LENGTH,
    "in": "header",
    "schema": {"type": "integer", "minimum": 0},
    "description": "How many bytes of the body are JSON; tensors' bytes follow it. 0 where there are these alone.",
}


def _operation(summary: str, answer: Mapping[str, Any], *, body: Mapping[str, Any] | None = None) -> Operation:
    bodies = None if body is None else {JSON: body}
    return Operation(summary, TAG, bodies, {200: {JSON: answer}}, is_body_required=False)


SERVER: Final = _operation("What the server is", _object({"name": _TEXT, "version": _TEXT, "extensions": _list(_TEXT)}))
LIVE: Final = _operation("Whether the server answers", _object({"live": {"type": "boolean"}}))
READY: Final = Operation(
    "Whether the server is ready for requests",
    TAG,
    answers={status: {JSON: _object({"ready": {"type": "boolean"}})} for status in (200, 503)},
)
MODEL: Final = _operation(
    "What a model takes and gives",
    _object(
        {
            "name": _TEXT,
            "versions": _list(_TEXT),
            "platform": _TEXT,
            "inputs": _list(_DESCRIBED),
            "outputs": _list(_DESCRIBED),
        }
    ),
)
MODEL_READY: Final = _operation(
    "Whether a model takes requests", _object({"name": _TEXT, "ready": {"type": "boolean"}})
)
CONFIGURATION: Final = _operation(
    "Triton's configuration of a model", _object({"name": _TEXT, "max_batch_size": _COUNT})
)
STATISTICS: Final = _operation("What became of a model's requests", _STATISTICS)
INFER: Final = Operation(
    "Compute the answer to tensors",
    TAG,
    {JSON: _REQUEST, OCTETS: _BYTES},
    {200: {JSON: _ANSWER, OCTETS: _BYTES}},
    (_LENGTH,),
)
INDEX: Final = _operation(
    "Every version of every model",
    _list(_object({"name": _TEXT, "version": _TEXT, "state": _TEXT, "reason": _TEXT})),
    body={"type": "object", "properties": {"ready": {"type": "boolean"}}},
)
LOAD: Final = _operation("Let a version take requests", {"type": "object"}, body=_VERSIONED)
UNLOAD: Final = _operation("Let a version take no more requests", {"type": "object"}, body=_VERSIONED)
