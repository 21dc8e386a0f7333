"""/invocations, as MLflow's scoring server and SageMaker's containers have it: rows in, `{"predictions": [...]}` out.

`instances` and `inputs` (tensors) and NumPy's array files are answered with the model's outputs, everything else with
what they mean; text/csv, where it is accepted rather than JSON, with the numbers of the first output, a line for every
row.
"""

import csv
import io
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import numpy as np
import orjson

from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Catalogue, Live
from mlctl.serving.http.messages import JSON, Drop, Request, Respond, Response
from mlctl.serving.http.routing import Operation, Route
from mlctl.serving.protocols.accepting import accepted
from mlctl.serving.protocols.answering import answer_each
from mlctl.serving.protocols.bodies import from_json, in_json, kind_of, require_utf8
from mlctl.serving.protocols.given_rows import GivenRows, from_columns, from_instances
from mlctl.serving.protocols.large_bodies import read_whole, require_rows
from mlctl.serving.protocols.natural_bodies import ANY_BODY, from_body, from_value
from mlctl.serving.protocols.nested_tensors import in_rows, jsonable
from mlctl.serving.protocols.reading_aside import read_then
from mlctl.serving.protocols.torchserve import meanings
from mlctl.serving.refusals import Malformed, NotReady, Refused

TAG: Final = "Invocations (MLflow, SageMaker)"
TARGET_HEADER: Final = "x-amzn-sagemaker-target-model"
CSV: Final = "text/csv"

_FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_CODES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "RESOURCE_DOES_NOT_EXIST",
    409: "RESOURCE_CONFLICT",
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_ROWS: Final = {"type": "array", "items": {"type": "object"}}
_BODY: Final = {
    **ANY_BODY,
    JSON: {
        "type": ["object", "array", "string"],
        "description": "One of dataframe_split, dataframe_records, instances and inputs; or a row of columns, or rows.",
        "properties": {
            "dataframe_split": {
                "type": "object",
                "required": ["data"],
                "properties": {
                    "columns": {"type": "array", "items": {"type": "string"}},
                    "data": {"type": "array", "items": {"type": "array"}},
                },
            },
            "dataframe_records": _ROWS,
            "instances": {"type": "array"},
            "inputs": {"type": ["array", "object"]},
        },
    },
}
_ANSWERS: Final = {
    200: {
        JSON: {"type": "object", "required": ["predictions"], "properties": {"predictions": {"type": "array"}}},
        CSV: {"type": "string"},
    }
}
_PARAMETERS: Final = (
    {"name": "model", "in": "query", "schema": {"type": "string"}, "description": "Where the server has several."},
    {"name": "X-Amzn-SageMaker-Target-Model", "in": "header", "schema": {"type": "string"}},
)


def routes(catalogue: Catalogue) -> tuple[Route, ...]:
    """The one route; what `/ping` answers is TorchServe's."""
    operation = Operation("What the model says of rows", TAG, _BODY, _ANSWERS, _PARAMETERS)
    handler, name = partial(_invoke, catalogue), partial(_model_of, catalogue)
    return (Route("POST", "/invocations", handler, "infer", refusal, operation, name),)


def refusal(refused: Refused) -> Response:
    """`{"error_code": ..., "message": ...}`, as MLflow has it."""
    return in_json({"error_code": _CODES.get(refused.status, "BAD_REQUEST"), "message": refused.what}, refused.status)


def _model_of(catalogue: Catalogue, request: Request) -> str:
    """The model that the header or the query names, or the only one. Raises Malformed, NotReady."""
    named = request.headers.get(TARGET_HEADER) or request.query.get("model")
    if named:
        return named
    names = catalogue.names
    if not names:
        raise NotReady("the server has no model")
    if len(names) > 1:
        shown = ", ".join(map(repr, names[:8]))
        raise Malformed(f"there are several models, such as {shown}: name one, as in /invocations?model={names[0]}")
    return names[0]


def _invoke(catalogue: Catalogue, request: Request, parameters: Mapping[str, str], respond: Respond) -> Drop:
    live = catalogue.find(_model_of(catalogue, request))
    media = accepted(request.headers.get("accept", ""), (JSON, CSV))

    def go_on(found: tuple[GivenRows, bool]) -> Drop:
        given, is_raw = found

        def written(outputs: list[Arrays]) -> Response:
            if media == CSV:
                return Response(200, _lines(live, outputs), CSV)
            return in_json({"predictions": in_rows(live.signature, outputs) if is_raw else meanings(live, outputs)})

        return answer_each(live, given.parts, request, respond, written=written, refusal=refusal)

    def read() -> tuple[GivenRows, bool]:
        return read_whole(len(request.body), lambda: _given(live, request))

    return read_then(live, request, respond, read=read, go_on=go_on, refusal=refusal)


def _given(live: Live, request: Request) -> tuple[GivenRows, bool]:
    """The rows, and whether they are answered with the outputs as they are."""
    if request.media != JSON:
        is_array = request.media == "application/x-npy"
        return from_body(live, request.body, request.headers.get("content-type", "")), is_array
    require_utf8(request.headers.get("content-type", ""))
    require_rows(request.body, live)
    value = from_json(request.body)
    forms = [form for form in _FORMS if form in value] if isinstance(value, dict) else []
    columns = {column for each in live.signature.meaning.inputs for column in each.columns}
    if not forms or columns & value.keys():
        return from_value(live, value), False
    if len(forms) > 1:
        raise Malformed(f"the request holds both {forms[0]!r} and {forms[1]!r}, and must hold one of them")
    if value.get("params"):
        raise Malformed("the model takes no 'params'")
    return _from_form(live, forms[0], value[forms[0]])


def _from_form(live: Live, form: str, value: Any) -> tuple[GivenRows, bool]:
    if form == "inputs":
        return from_columns(live, value), True
    if form == "instances":
        return from_instances(live, value), True
    rows = _split_rows(live, value) if form == "dataframe_split" else value
    if not isinstance(rows, list) or set(map(type, rows)) != {dict}:
        raise Malformed(f"{form} is a list with at least one object of columns")
    return from_instances(live, rows), False


def _split_rows(live: Live, split: Any) -> list[dict[str, Any]]:
    """The rows of pandas' `split` orientation; without columns they are the model's own, in their order."""
    if not isinstance(split, dict) or not isinstance(split.get("data"), list):
        raise Malformed("dataframe_split is an object with 'columns' and 'data', which are lists")
    own = [column for each in live.signature.meaning.inputs for column in each.columns]
    columns = split.get("columns", own)
    if not isinstance(columns, list) or not columns or not all(isinstance(name, str) for name in columns):
        raise Malformed("the columns of dataframe_split are a list of names")
    if len(set(columns)) != len(columns):
        raise Malformed("dataframe_split names a column twice")
    for place, row in enumerate(split["data"]):
        if not isinstance(row, list) or len(row) != len(columns):
            said = f"{len(row)} values" if isinstance(row, list) else kind_of(row)
            raise Malformed(f"row {place} of dataframe_split is {said}, and there are {len(columns)} columns")
    return [dict(zip(columns, row, strict=True)) for row in split["data"]]


def _lines(live: Live, parts: list[Arrays]) -> bytes:
    """The first output of every part, a line for every row; NaN and infinities are `nan`, as JSON's null."""
    port, lines = live.signature.outputs[0], io.BytesIO()
    for part in parts:
        values = jsonable(port, part[0])
        if isinstance(values, np.ndarray):
            flat = values.reshape(len(values), -1)
            written = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2]
            lines.write(written.replace(b"],[", b"\n").replace(b"null", b"nan") + b"\n")
        else:
            lines.write(_quoted_lines(values))
    return lines.getvalue()


def _quoted_lines(rows: list[Any]) -> bytes:
    """Texts, quoted as RFC 4180 has it where they need it."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([np.ravel(np.array(row, object)).tolist() for row in rows])
    return stream.getvalue().encode()
