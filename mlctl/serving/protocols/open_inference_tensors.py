"""Tensors of the Open Inference Protocol v2, whatever carries them: checked against what the model takes.

An array of a model's port has the dtype that the port names; texts ("object", BYTES) are `str`, and bfloat16, which
NumPy does not have, travels as its bits in uint16. All numbers are little-endian, as the protocol says.
"""

import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays
from mlctl.runtime.open_inference import NAMES
from mlctl.runtime.running import Port
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

assert sys.byteorder == "little", "tensors are given to the runtime as they came, in little-endian bytes"

Array: TypeAlias = npt.NDArray[Any]

DATATYPES: Final = {**NAMES, "object": "BYTES", "bfloat16": "BF16"}
"""The protocol's names by a port's dtype."""

_CODES: Final = {
    "bool": "?", "int8": "b", "int16": "h", "int32": "i", "int64": "q", "uint8": "B", "uint16": "H", "uint32": "I",
    "uint64": "Q", "float16": "e", "float32": "f", "float64": "d",
}  # fmt: skip
"""Of the module struct, whose packing checks the kind and the range of every number in a third of NumPy's time."""

_LONGEST_QUOTE: Final = 64
"""Characters of a caller's text that a refusal repeats."""
_LONGEST_LIST: Final = 8


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that is asked for."""

    place: int
    """Among the outputs of the graph."""
    port: Port
    classes: int = 0
    """How many of the highest values are wanted as classes, with their labels; 0 wants the tensor itself."""


def datatype(port: Port) -> str:
    """The protocol's name of what the port holds; NumPy's, in capitals, for what the protocol does not have."""
    return DATATYPES.get(port.dtype, port.dtype.upper())


def open_shape(port: Port) -> list[int]:
    """The port's shape with -1 for sizes that are open."""
    return [-1 if size is None else size for size in port.shape]


def quoted(said: object) -> str:
    """What a caller wrote, as JSON has it, cut to a length that a message can hold; lists and objects by their kind."""
    if isinstance(said, str):
        return repr(said if len(said) <= _LONGEST_QUOTE else said[: _LONGEST_QUOTE - 1] + "…")
    if said is None or isinstance(said, bool):
        return "null" if said is None else str(said).lower()
    if isinstance(said, int | float):
        return str(said)
    return "an object" if isinstance(said, Mapping) else "a list" if isinstance(said, Sequence) else "something else"


def quoted_list(said: Sequence[object]) -> str:
    """The beginning of a list that a caller wrote."""
    return f"[{', '.join(map(quoted, said[:_LONGEST_LIST]))}{', …' * (len(said) > _LONGEST_LIST)}]"


def checked_port(signature: Signature, name: str, named_datatype: str, shape: Sequence[Any]) -> Port:
    """The input of that name. Raises Malformed where there is none, or it does not take this datatype or shape."""
    port = signature.input(name)
    if port is None:
        there = ", ".join(repr(each.name) for each in signature.inputs)
        raise Malformed(f"the model has no input {quoted(name)}; it takes {there}")
    if named_datatype != datatype(port):
        raise Malformed(f"input {name!r} takes {datatype(port)}, not {quoted(named_datatype)}")
    check_shape(port, shape)
    return port


def check_shape(port: Port, shape: Sequence[Any]) -> None:
    """Raise Malformed where an input does not take this shape: another rank or size, or nothing in it."""
    if len(shape) == len(port.shape):
        for wanted, size in zip(port.shape, shape, strict=True):
            if type(size) is not int or size < 1 or (wanted is not None and wanted != size):
                break
        else:
            return
    if any(type(size) is int and size == 0 for size in shape[: len(port.shape)]):
        raise Malformed(f"input {port.name!r} has nothing in it: a size of its shape {quoted_list(shape)} is 0")
    if any(type(size) is int and size < 0 for size in shape[: len(port.shape)]):
        raise Malformed(f"input {port.name!r} cannot be: a size of its shape {quoted_list(shape)} is below 1")
    raise Malformed(f"input {port.name!r} takes the shape {open_shape(port)}, not {quoted_list(shape)}")


def from_raw(port: Port, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    """The tensor whose bytes these are, row-major; the array looks at `raw` where its alignment allows.

    `shape` is one that `checked_port` let pass. Raises Malformed where the bytes are more or fewer than it takes, or no
    booleans, or no texts in UTF-8 behind their lengths of four bytes each.
    """
    if port.dtype == "object":
        return _texts_from_raw(port, shape, raw)
    dtype = array_dtype(port)
    wanted = prod(shape) * dtype.itemsize
    if len(raw) != wanted:
        raise Malformed(
            f"input {port.name!r} has {len(raw):,} bytes, and {datatype(port)} {list(shape)} has {wanted:,}"
        )
    if port.dtype == "bool":
        bits = np.frombuffer(raw, np.uint8)
        if bits.max() > 1:
            raise Malformed(f"input {port.name!r} takes BOOL, whose bytes are 0 or 1")
        return bits.view(np.bool_).reshape(shape)
    array = np.frombuffer(raw, dtype).reshape(shape)
    return array if array.flags.aligned else array.copy()


def from_values(port: Port, shape: Sequence[int], values: Sequence[Any], *, may_hold_booleans: bool = True) -> Array:
    """The tensor of these values, row-major: numbers, booleans, or texts as str or as bytes of UTF-8.

    `shape` is one that `checked_port` let pass. Raises Malformed where there are more or fewer values, or a value is of
    another kind or out of the datatype's range: nothing is cut off, and a boolean is no number.
    `may_hold_booleans=False` says that there are none for certain.
    """
    if len(values) != prod(shape):
        raise Malformed(
            f"input {port.name!r} has {len(values):,} values, and its shape {list(shape)} has {prod(shape):,}"
        )
    if port.dtype == "object":
        return _texts(port, shape, values)
    code = _CODES.get(port.dtype)
    if code is None:
        raise Malformed(f"input {port.name!r} takes {datatype(port)}, which can be sent as binary data alone")
    kinds = set(map(type, values)) if may_hold_booleans or code == "?" else set()
    if (kinds != {bool}) if code == "?" else (bool in kinds):
        raise Malformed(_unfit(port, values))
    try:
        raw = struct.pack(f"<{len(values)}{code}", *values)
    except (struct.error, OverflowError):
        raise Malformed(_unfit(port, values)) from None
    return np.frombuffer(raw, array_dtype(port)).reshape(shape)


def arranged(signature: Signature, given: Sequence[tuple[Port, Array]]) -> Arrays:
    """Every input of the model, in its order. Raises Malformed for those that are missing, doubled or of other rows."""
    found = {port.name: array for port, array in given}
    if len(found) != len(given):
        names = [port.name for port, _ in given]
        raise Malformed(f"input {next(name for name in names if names.count(name) > 1)!r} is given twice")
    if len(found) != len(signature.inputs):
        missing = ", ".join(repr(port.name) for port in signature.inputs if port.name not in found)
        raise Malformed(f"the model also takes the input {missing}")
    arrays = tuple([found[port.name] for port in signature.inputs])
    _require_same_rows(signature, arrays)
    return arrays


def wanted_output(signature: Signature, name: str, classes: int = 0) -> Wanted:
    """The output of that name. Raises Malformed where there is none, or it has no values that could be ranked."""
    for place, port in enumerate(signature.outputs):
        if port.name == name:
            if classes and port.dtype in ("object", "bfloat16"):
                raise Malformed(f"output {name!r} is {datatype(port)}, whose values are no classes")
            return Wanted(place, port, classes)
    there = ", ".join(repr(each.name) for each in signature.outputs)
    raise Malformed(f"the model has no output {quoted(name)}; it gives {there}")


def all_outputs(signature: Signature) -> tuple[Wanted, ...]:
    """What is wanted by a caller who names no output."""
    return tuple([Wanted(place, port) for place, port in enumerate(signature.outputs)])


def to_raw(array: Array) -> bytes:
    """The tensor's bytes, row-major; texts are four bytes of length and UTF-8 each."""
    if array.dtype != object:
        return array.tobytes()
    parts: list[bytes] = []
    for text in array.ravel():
        encoded = text if isinstance(text, bytes) else str(text).encode()
        parts += (len(encoded).to_bytes(4, "little"), encoded)
    return b"".join(parts)


def array_dtype(port: Port) -> np.dtype[Any]:
    """What the port's arrays are made of; bfloat16 is its bits."""
    found = _DTYPES.get(port.dtype)
    if found is None:
        raise Malformed(f"{port.name!r} holds {datatype(port)}, which the protocol has no name for")
    return found


_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    **{name: np.dtype(name) for name in _CODES},
    "object": np.dtype(object),
    "bfloat16": np.dtype(np.uint16),
}


def _require_same_rows(signature: Signature, arrays: Arrays) -> None:
    rows = arrays[0].shape[:1]
    for port, array in zip(signature.inputs, arrays, strict=True):
        if not array.shape:
            raise Malformed(f"input {port.name!r} has no batch dimension, and cannot be served")
        if array.shape[:1] != rows:
            first = signature.inputs[0].name
            raise Malformed(
                f"input {first!r} has {rows[0]} rows, and {port.name!r} has {len(array)}: they must be as many"
            )


def _texts_from_raw(port: Port, shape: Sequence[int], raw: bytes | memoryview) -> Array:
    texts: list[bytes] = []
    place, count = 0, prod(shape)
    # Every text takes four bytes at least: a count that they do not reach is refused before anything is made.
    if count * 4 > len(raw):
        raise Malformed(f"input {port.name!r} has {len(raw):,} bytes, too few for {count:,} texts with their lengths")
    for _ in range(count):
        length = int.from_bytes(raw[place : place + 4], "little")
        end = place + 4 + length
        if end > len(raw):
            raise Malformed(f"input {port.name!r} ends within text {len(texts)} of {count:,}")
        texts.append(bytes(raw[place + 4 : end]))
        place = end
    if place != len(raw):
        raise Malformed(f"input {port.name!r} has {len(raw) - place:,} bytes after the last of its {count:,} texts")
    return _texts(port, shape, texts)


def _texts(port: Port, shape: Sequence[int], values: Sequence[Any]) -> Array:
    array = np.empty(len(values), object)
    for place, value in enumerate(values):
        try:
            # ONNX's strings are UTF-8, and ONNX Runtime would take Python's spelling of bytes for the text.
            array[place] = value.decode() if isinstance(value, bytes) else value
        except UnicodeDecodeError:
            raise Malformed(f"input {port.name!r} takes texts in UTF-8, and value {place} is none") from None
        if not isinstance(array[place], str):
            raise Malformed(_unfit(port, values))
    return array.reshape(shape)


def _unfit(port: Port, values: Sequence[Any]) -> str:
    """Which value it is that the port does not take."""
    for place, value in enumerate(values):
        if not _fits(port.dtype, value):
            return f"input {port.name!r} takes {datatype(port)}, and value {place} is {quoted(value)}"
    return f"input {port.name!r} takes {datatype(port)}"


def _fits(dtype: str, value: Any) -> bool:
    if dtype == "object":
        return isinstance(value, str | bytes)
    if dtype == "bool" or isinstance(value, bool):
        return dtype == "bool" and isinstance(value, bool)
    try:
        struct.pack(f"<{_CODES[dtype]}", value)
    except (struct.error, OverflowError):
        return False
    return True
