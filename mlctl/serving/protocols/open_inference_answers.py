"""The answer to an inference of the Open Inference Protocol v2 over HTTP: JSON, bytes of tensors behind it."""

from typing import Any

import orjson

from mlctl.runtime.answers import Arrays
from mlctl.runtime.open_inference import HEADER_LENGTH
from mlctl.serving.http.messages import JSON, OCTETS, Response
from mlctl.serving.protocols.json_tensors import json_of
from mlctl.serving.protocols.open_inference_classes import classified
from mlctl.serving.protocols.open_inference_json_plans import JsonPlan
from mlctl.serving.protocols.open_inference_plans import Plan
from mlctl.serving.protocols.open_inference_requests import Answered, Asked
from mlctl.serving.protocols.open_inference_tensors import datatype, to_raw
from mlctl.serving.signature import Signature


def write(signature: Signature, asked: Asked, outputs: Arrays) -> Response:
    """The answer that carries the outputs that were asked for.

    Raises Unacceptable where one of them can be sent as binary data alone and was not asked for as such.
    """
    if isinstance(asked.plan, Plan):
        return _written(signature, asked.plan, outputs)
    if asked.plan is not None:
        return _written_in_json(signature, asked.plan, outputs)
    tensors: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for each in asked.outputs:
        wanted, array = each.wanted, outputs[each.wanted.place]
        named = datatype(wanted.port)
        if wanted.classes:
            array, named = classified(array, wanted, signature), "BYTES"
        tensor: dict[str, Any] = {"name": wanted.port.name, "datatype": named, "shape": array.shape}
        if each.is_binary:
            parts.append(to_raw(array))
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = orjson.Fragment(json_of(wanted.port.name, array))
        tensors.append(tensor)
    said: dict[str, Any] = {"model_name": signature.name, "model_version": str(signature.version), "outputs": tensors}
    head = orjson.dumps(said if asked.id is None else {**said, "id": asked.id})
    if not any(each.is_binary for each in asked.outputs):
        return Response(200, head, JSON)
    return Response(200, b"".join((head, *parts)), OCTETS, ((HEADER_LENGTH, str(len(head))),))


def _written(signature: Signature, plan: Plan, outputs: Arrays) -> Response:
    """The answer to a request that is planned."""
    arrays = [outputs[each.place] for each in plan.outputs]
    shapes = tuple([each.shape for each in arrays])
    found = plan.heads.get(shapes)
    if found is None:
        asked = Asked((), tuple(Answered(each, is_binary=True) for each in plan.outputs), None)
        response = write(signature, asked, outputs)
        head = response.body[: len(response.body) - sum(each.nbytes for each in arrays)]
        found = plan.keep(shapes, (head, response.headers))
    return Response(200, b"".join([found[0], *[each.tobytes() for each in arrays]]), OCTETS, found[1])


def _written_in_json(signature: Signature, plan: JsonPlan, outputs: Arrays) -> Response:
    body = plan.answer(outputs)
    if body is None:
        asked = Asked((), tuple(Answered(each, is_binary=False) for each in plan.outputs), None)
        body = plan.keep(outputs, write(signature, asked, outputs).body)
    return Response(200, body)
