"""Tensors as gRPC carries them: in typed fields, or as bytes beside the message."""

from collections.abc import Mapping
from math import prod
from typing import Final

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.grpc.open_inference_messages import InferParameter, InferTensorContents, ModelInferRequest
from mlctl.serving.grpc.wire import packed
from mlctl.serving.protocols import open_inference_tensors as tensors
from mlctl.serving.protocols.open_inference_tensors import Array, Wanted
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

_FIELDS: Final = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "object": "bytes_contents",
}
"""Where the values of a port's dtype stand; float16 and bfloat16 are sent as bytes alone."""

_PACKED: Final = ("bool", "float32", "float64")
"""Dtypes whose values are on the wire what they are in memory."""


def inputs_of(request: ModelInferRequest, signature: Signature) -> Arrays:
    """Every input of the model [n, ...], in its order; the arrays look at the request's bytes where they can.

    Raises Malformed.
    """
    raw = request.raw_input_contents
    given = request.inputs
    if raw and len(raw) != len(given):
        raise Malformed(f"the request has {len(given)} inputs, and raw_input_contents of {len(raw)}")
    found: list[tuple[Port, Array]] = []
    for place, tensor in enumerate(given):
        _require_no_shared_memory(tensor.parameters, "input", tensor.name)
        shape = list(tensor.shape)
        port = tensors.checked_port(signature, tensor.name, tensor.datatype, shape)
        if not raw:
            found.append((port, _from_contents(port, shape, tensor.contents)))
        elif tensor.HasField("contents"):
            raise Malformed(f"input {port.name!r} has contents beside its raw_input_contents: one of them, please")
        else:
            found.append((port, tensors.from_raw(port, shape, raw[place])))
    return tensors.arranged(signature, found)


def _from_contents(port: Port, shape: list[int], contents: InferTensorContents) -> Array:
    name = _FIELDS.get(port.dtype)
    if name is None:
        raise Malformed(f"input {port.name!r} takes {tensors.datatype(port)}, which raw_input_contents alone can hold")
    for field, _ in contents.ListFields():
        if field.name != name:
            raise Malformed(
                f"input {port.name!r} takes {tensors.datatype(port)}, with values in {name}, not in {field.name}"
            )
    values = getattr(contents, name)
    if port.dtype in _PACKED and len(values) == prod(shape):
        return tensors.from_raw(port, shape, packed(contents))
    return tensors.from_values(port, shape, values, may_hold_booleans=False)


def outputs_wanted(request: ModelInferRequest, signature: Signature) -> tuple[Wanted, ...]:
    """The outputs that the request names, in its order; all where it names none. Raises Malformed."""
    if not request.outputs:
        return tensors.all_outputs(signature)
    found = tuple(tensors.wanted_output(signature, each.name, _classes(each)) for each in request.outputs)
    if len({each.place for each in found}) != len(found):
        raise Malformed("an output is asked for twice")
    return found


def _classes(output: ModelInferRequest.InferRequestedOutputTensor) -> int:
    """How many classes are asked for, as Triton's classification extension does; 0 where the tensor itself is."""
    parameters = output.parameters
    _require_no_shared_memory(parameters, "output", output.name)
    if "classification" not in parameters:
        return 0
    given = parameters["classification"]
    classes = int(given.int64_param)
    if not given.HasField("int64_param") or classes < 0:
        raise Malformed(f"output {tensors.quoted(output.name)} has a classification that is no number of classes")
    return classes


def _require_no_shared_memory(parameters: Mapping[str, InferParameter], kind: str, name: str) -> None:
    if "shared_memory_region" in parameters:
        raise Malformed(f"{kind} {tensors.quoted(name)} lies in shared memory, which this server does not read")
