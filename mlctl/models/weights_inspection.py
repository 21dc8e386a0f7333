"""What a safetensors file holds, read from its header alone; no weight is loaded.

The format (github.com/huggingface/safetensors): eight bytes little-endian that say how long the header is, the header
as JSON, then the tensors' bytes, end to end without gaps.
"""

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

from mlctl.errors import DataError

_LENGTH_BYTES: Final = 8
_LARGEST_HEADER: Final = 100_000_000
"""The format's own limit, in bytes."""
_METADATA: Final = "__metadata__"
_BITS: Final = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_NAMES: Final = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16",
    "BF16": "bfloat16", "I32": "int32", "U32": "uint32", "F32": "float32", "I64": "int64", "U64": "uint64",
    "F64": "float64", "C64": "complex64",
}  # fmt: skip
_NEXT: Final = "make the file again; `mlctl run --force STEP` does"


@dataclass(frozen=True)
class StoredTensor:
    """One tensor: its name, dtype as NumPy (or ml_dtypes) calls it, shape and bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return prod(self.shape)


@dataclass(frozen=True)
class WeightsInspection:
    """A safetensors file: its tensors in the order of their bytes, its metadata, and the size of the whole file."""

    tensors: tuple[StoredTensor, ...]
    metadata: dict[str, str]
    bytes: int

    @property
    def parameters(self) -> int:
        """The elements of its floating-point tensors."""
        return sum(each.elements for each in self.tensors if each.dtype.startswith(("f", "bfloat")))


def inspect_weights(path: Path) -> WeightsInspection:
    """The tensors of the safetensors file at `path`.

    Raises DataError for a file that cannot be read, or whose header is not one: cut off, no JSON, a type that is not
    known, or tensors that overlap, leave gaps or end outside the file.
    """
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            header, start = _header(stream, size)
    except OSError as error:
        raise DataError(f"this file cannot be read ({error.strerror})", where=path, next="check the path") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"not a safetensors file: {error}", where=path, next=_NEXT) from error
    try:
        return _inspection(header, start, size)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"its header is damaged: {error}", where=path, next=_NEXT) from error


def _header(stream: BinaryIO, size: int) -> tuple[dict[str, Any], int]:
    """The header, and where the tensors' bytes begin. Raises ValueError."""
    length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
    start = _LENGTH_BYTES + length
    if size < _LENGTH_BYTES or length > _LARGEST_HEADER or start > size:
        raise ValueError("its header does not end within it")
    header = json.loads(stream.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, start


def _inspection(header: dict[str, Any], start: int, size: int) -> WeightsInspection:
    metadata = {str(key): str(value) for key, value in header.pop(_METADATA, {}).items()}
    entries = sorted(header.items(), key=lambda entry: tuple(entry[1]["data_offsets"]))
    end = 0
    tensors = []
    for name, entry in entries:
        begin, stop = entry["data_offsets"]
        shape = tuple(int(each) for each in entry["shape"])
        bits = _BITS[entry["dtype"]]
        if begin != end or stop < begin or min(shape, default=0) < 0 or 8 * (stop - begin) != bits * prod(shape):
            raise ValueError(f"{name!r} does not lie where its shape and its neighbours say")
        end = stop
        tensors.append(StoredTensor(name, _NAMES.get(entry["dtype"], entry["dtype"].lower()), shape, stop - begin))
    if start + end != size:
        raise ValueError(f"its tensors end at byte {start + end:,}, the file at {size:,}")
    return WeightsInspection(tuple(tensors), metadata, size)
