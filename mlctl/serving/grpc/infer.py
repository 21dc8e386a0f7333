"""Tensors in, tensors out: what a request for inference becomes, and what its outputs become."""

import asyncio
from collections.abc import Callable

from mlctl.runtime.answers import Arrays
from mlctl.serving.catalogue import Catalogue
from mlctl.serving.grpc.calls import Call
from mlctl.serving.grpc.open_inference_messages import ModelInferRequest, ModelInferResponse
from mlctl.serving.grpc.tensors import inputs_of, outputs_wanted
from mlctl.serving.grpc.wire import written
from mlctl.serving.inference import Inference
from mlctl.serving.protocols import open_inference_tensors as tensors
from mlctl.serving.protocols.open_inference_classes import classified
from mlctl.serving.protocols.open_inference_tensors import Wanted
from mlctl.serving.refusals import Refused
from mlctl.serving.signature import Signature


async def infer(catalogue: Catalogue, request: ModelInferRequest, call: Call) -> bytes:
    """The ModelInferResponse to one request; its rows are dropped where the call is cancelled. Raises Refused."""
    live = catalogue.find(request.model_name, request.model_version or None)
    signature = live.signature
    call.version = signature.version
    wanted = outputs_wanted(request, signature)
    answered: asyncio.Future[Arrays] = asyncio.get_running_loop().create_future()
    inference = Inference(
        inputs_of(request, signature), _settling(answered), call.deadline(live.timeout_seconds), call.arrived
    )
    live.submit(inference)
    try:
        outputs = await answered
    except asyncio.CancelledError:
        inference.is_dropped = True
        raise
    return _response(request.id, signature, wanted, outputs)


def _settling(answered: "asyncio.Future[Arrays]") -> Callable[[Arrays | Refused], None]:
    def settle(found: Arrays | Refused) -> None:
        if answered.done():
            return
        if isinstance(found, Refused):
            answered.set_exception(found)
        else:
            answered.set_result(found)

    return settle


def _response(identifier: str, signature: Signature, wanted: tuple[Wanted, ...], outputs: Arrays) -> bytes:
    response = ModelInferResponse(model_name=signature.name, model_version=str(signature.version), id=identifier)
    found = []
    for each in wanted:
        array, named = outputs[each.place], tensors.datatype(each.port)
        if each.classes:
            array, named = classified(array, each, signature), "BYTES"
        response.outputs.add(name=each.port.name, datatype=named, shape=array.shape)
        found.append(array)
    return written(response, found)
