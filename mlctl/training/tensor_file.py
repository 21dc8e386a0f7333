"""Tensors written as a safetensors file piece by piece, without a second copy of them in memory.

The format (github.com/huggingface/safetensors, "Format"): 8 bytes with the length of a JSON header, little-endian; the
header, padded with spaces to a multiple of 8; the tensors' bytes, little-endian and row-major, one behind the other.
The library's own writer joins them all in one string and lets no other thread run meanwhile.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mlctl.digests import Json, canonical
from mlctl.errors import StepFailed

TYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint64: "U64",
    torch.uint32: "U32",
    torch.uint16: "U16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
    torch.complex64: "C64",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
}
ALIGNMENT = 8


def write_tensors(stream: BinaryIO, tensors: Mapping[str, Tensor], metadata: str) -> None:
    """Write host tensors, in the order of their names, with `metadata` under the one key `mlctl`.

    Raises StepFailed for a dtype that the format does not have.
    """
    header: dict[str, object] = {"__metadata__": {"mlctl": metadata}}
    position = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        end = position + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": _type(name, tensor), "shape": list(tensor.shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    stream.write(len(text).to_bytes(8, "little") + text)
    for name in sorted(tensors):
        stream.write(_bytes(tensors[name]).data)


def tensors_digest(header: Json, tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of the header, JSON data, and of every tensor's name, dtype, shape and bytes, in order of names."""
    hasher = hashlib.sha256(canonical(header))
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(canonical([name, str(tensor.dtype), list(tensor.shape)]))
        hasher.update(_bytes(tensor).data)
    return hasher.hexdigest()


def _type(name: str, tensor: Tensor) -> str:
    if tensor.dtype not in TYPES:
        raise StepFailed(f"{name} is {tensor.dtype}, which no checkpoint can hold", next="give it another dtype")
    return TYPES[tensor.dtype]


def _bytes(tensor: Tensor) -> npt.NDArray[np.uint8]:
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy()
