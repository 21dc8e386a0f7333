"""Tensors as the Open Inference Protocol v2 carries them over HTTP: as JSON, or as bytes behind a JSON header.

`Inference-Header-Content-Length` says where the bytes begin; each tensor's lie in the order of the header, row-major
and little-endian (the binary tensor data extension).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
import numpy.typing as npt

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
BINARY_EXTENSION: Final = "binary_tensor_data"

DTYPES: Final = {
    "BOOL": "bool",
    **{f"{kind.upper()}{bits}": f"{kind}{bits}" for kind in ("uint", "int") for bits in (8, 16, 32, 64)},
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
"""NumPy's dtypes by the protocol's names; texts (BYTES) and bfloat16 have none."""
NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}

_LONGEST_LENGTH: Final = 18
"""Digits of a length that are read; no body is longer."""


class Malformed(Exception):
    """An answer that is not what the protocol says; the text says what is wrong with it."""


@dataclass(frozen=True)
class Request:
    """The body of an inference request, and the headers that go with it."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Response:
    """Which version of the model answered, empty where the server does not say, and its outputs by name."""

    version: str
    outputs: Mapping[str, npt.NDArray[Any]]


def encoded(inputs: Mapping[str, npt.NDArray[Any]], outputs: Sequence[str], *, is_binary: bool) -> Request:
    """A request for these outputs to these inputs, of dtypes that `NAMES` has."""
    tensors: list[dict[str, Any]] = []
    parts: list[bytes] = []
    for name, array in inputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": NAMES[array.dtype.name], "shape": list(array.shape)}
        if is_binary:
            parts.append(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
            tensor["parameters"] = {"binary_data_size": len(parts[-1])}
        else:
            tensor["data"] = array.ravel().tolist()
        tensors.append(tensor)
    wanted = [{"name": name, **({"parameters": {"binary_data": True}} if is_binary else {})} for name in outputs]
    header = json.dumps({"inputs": tensors, "outputs": wanted}, separators=(",", ":")).encode()
    if not is_binary:
        return Request(header, {"Content-Type": "application/json"})
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    return Request(header + b"".join(parts), headers)


def decoded(body: bytes, header_length: str | None) -> Response:
    """What a server answered: all tensors of numbers in `body`, whose JSON ends after `header_length` bytes, if given.

    Raises Malformed.
    """
    end = _header_end(body, header_length)
    try:
        header = json.loads(body[:end])
    except (ValueError, RecursionError):
        raise Malformed("its answer is no JSON") from None
    if not isinstance(header, dict) or not isinstance(header.get("outputs"), list):
        raise Malformed("its answer has no outputs")
    outputs: dict[str, npt.NDArray[Any]] = {}
    rest = body[end:]
    for tensor in header["outputs"]:
        name, array, used = _tensor(tensor, rest)
        outputs[name] = array
        rest = rest[used:]
    return Response(str(header.get("model_version") or ""), outputs)


def header_end(length: str, whole: int) -> int | None:
    """Where the JSON ends in a body of `whole` bytes, by its header; None where the header is no length of a part."""
    if not (length.isascii() and length.isdigit()) or len(length) > _LONGEST_LENGTH or int(length) > whole:
        return None
    return int(length)


def _header_end(body: bytes, header_length: str | None) -> int:
    end = len(body) if header_length is None else header_end(header_length, len(body))
    if end is None:
        raise Malformed(f"its {HEADER_LENGTH} is not the length of a part of its answer")
    return end


def _tensor(tensor: Any, rest: bytes) -> tuple[str, npt.NDArray[Any], int]:
    """A tensor by its name, and how many bytes of `rest` it took."""
    try:
        name, datatype, shape = str(tensor["name"]), str(tensor["datatype"]), tuple(tensor["shape"])
    except (TypeError, KeyError):
        raise Malformed("an output of its answer has no name, datatype or shape") from None
    if datatype not in DTYPES:
        raise Malformed(f"its output {name!r} is {datatype!r}, which are no numbers")
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size < 2**40 for size in shape):
        raise Malformed(f"its output {name!r} has a shape that is none")
    parameters = tensor.get("parameters")
    size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
    if size is None:
        return name, _from_json(name, datatype, shape, tensor.get("data")), 0
    part = rest[:size] if isinstance(size, int) and size > 0 else b""
    return name, _from_bytes(name, datatype, shape, part), len(part)


def _from_bytes(name: str, datatype: str, shape: tuple[int, ...], part: bytes) -> npt.NDArray[Any]:
    dtype = np.dtype(DTYPES[datatype]).newbyteorder("<")
    if len(part) != prod(shape) * dtype.itemsize:
        raise Malformed(f"its output {name!r} has {len(part):,} bytes, which are not {datatype} {list(shape)}")
    return np.frombuffer(part, dtype).reshape(shape).astype(DTYPES[datatype], copy=False)


def _from_json(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> npt.NDArray[Any]:
    try:
        # Nested or flat, both are row-major.
        found = np.asarray(data, DTYPES[datatype])
    except (ValueError, TypeError, OverflowError):
        raise Malformed(f"its output {name!r} holds values that are not {datatype}") from None
    if found.size != prod(shape) or data is None:
        raise Malformed(f"its output {name!r} has {found.size:,} values, which are not of the shape {list(shape)}")
    return found.reshape(shape)
