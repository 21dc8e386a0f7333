"""What the Open Inference Protocol v2 tells of a server and its models, for REST and gRPC alike."""

from typing import Any, Final

from mlctl.runtime.running import Port
from mlctl.serving.catalogue import Catalogue, Live
from mlctl.serving.protocols.open_inference_tensors import datatype, open_shape
from mlctl.serving.signature import Signature

SERVER_NAME: Final = "mlctl"
EXTENSIONS: Final = ("classification", "model_configuration", "model_repository", "statistics")
"""By Triton's names; REST has `binary_tensor_data` besides."""

_PLATFORMS: Final = {"onnxruntime": "onnxruntime_onnx", "openvino": "openvino"}
"""Triton's names of what a graph runs on."""
_CONFIGURED: Final = {"BYTES": "TYPE_STRING"}
"""Datatypes that a model's configuration calls otherwise than `TYPE_` and the protocol's name."""


def metadata(catalogue: Catalogue, live: Live, version: str | None) -> dict[str, Any]:
    """A model as the protocol describes it; `versions` are those that take requests, or the one that was asked for."""
    signature = live.signature
    ready = (
        [str(signature.version)]
        if version is not None
        else [str(each.version) for each in catalogue.entries(signature.name) if each.state == "ready"]
    )
    return {
        "name": signature.name,
        "versions": ready,
        "platform": _PLATFORMS.get(signature.runtime, signature.runtime),
        "inputs": [_tensor(port) for port in signature.inputs],
        "outputs": [_tensor(port) for port in signature.outputs],
    }


def configuration(signature: Signature, max_batch_size: int) -> dict[str, Any]:
    """A model as Triton's model configuration describes it (the JSON form of its protobuf message).

    A model whose requests can be joined has `max_batch_size` rows at most in a batch, and its shapes are those of one
    row; another has 0, and whole shapes.
    """
    is_batched = all(port.shape and port.shape[0] is None for port in (*signature.inputs, *signature.outputs))
    config: dict[str, Any] = {
        "name": signature.name,
        "platform": _PLATFORMS.get(signature.runtime, signature.runtime),
        "backend": signature.runtime,
        "version_policy": {"specific": {"versions": [signature.version]}},
        "max_batch_size": max_batch_size if is_batched else 0,
        "input": [_configured(port, is_batched=is_batched) for port in signature.inputs],
        "output": [_configured(port, is_batched=is_batched) for port in signature.outputs],
        "default_model_filename": "model.onnx",
    }
    return {**config, "dynamic_batching": {}} if is_batched else config


def _tensor(port: Port) -> dict[str, Any]:
    return {"name": port.name, "datatype": datatype(port), "shape": open_shape(port)}


def _configured(port: Port, *, is_batched: bool) -> dict[str, Any]:
    named, dims = datatype(port), open_shape(port)[1 if is_batched else 0 :]
    found: dict[str, Any] = {"name": port.name, "data_type": _CONFIGURED.get(named, f"TYPE_{named}"), "dims": dims}
    # Triton has no tensors without dimensions: one number for a row is a dimension of 1 that is reshaped away.
    return found if dims else {**found, "dims": [1], "reshape": {"shape": []}}
