"""Tensors in JSON: nested lists as callers write them, and the answer's numbers as text."""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, TypeAlias

import numpy as np
import orjson

from mlctl.runtime.running import Port
from mlctl.serving.protocols.bodies import from_json as from_json_text
from mlctl.serving.protocols.open_inference_tensors import Array, check_shape, from_values, quoted
from mlctl.serving.refusals import Malformed, Unacceptable

Flat: TypeAlias = list[Any]

_DEEPEST: Final = 32
"""Levels of lists that are looked into; NumPy's arrays have 64 dimensions at most, and models a handful."""


def decoded(body: bytes | memoryview) -> dict[str, Any]:
    """The object that a body of JSON holds.

    Raises Malformed for what is no JSON, or is no object.
    """
    found = from_json_text(body)
    if not isinstance(found, dict):
        raise Malformed(f"the request is {quoted(found)}, and must be an object")
    return found


def from_json(port: Port, shape: Sequence[int], data: Any, *, has_booleans: bool = True) -> Array:
    """The tensor of the shape in a list that is flat, or nested as the shape is.

    `shape` is one that `check_shape` let pass; `has_booleans=False` says that there are none for certain. Raises
    Malformed.
    """
    if not isinstance(data, list):
        raise Malformed(f"input {port.name!r} has its data in {quoted(data)}, and must have it in a list")
    flat = _flattened(port, shape, data) if data and isinstance(data[0], list) else data
    return from_values(port, shape, flat, may_hold_booleans=has_booleans)


def from_nested(port: Port, data: Any, *, has_booleans: bool = True) -> Array:
    """The tensor in nested lists that say their shape themselves; the model must take that shape. Raises Malformed."""
    shape = nested_shape(data)
    check_shape(port, shape)
    return from_json(port, shape, data if isinstance(data, list) else [data], has_booleans=has_booleans)


def nested_shape(data: Any) -> list[int]:
    """The shape of nested lists, as far as each list's first value tells."""
    shape: list[int] = []
    while isinstance(data, list) and len(shape) < _DEEPEST:
        shape.append(len(data))
        if not data:
            break
        data = data[0]
    return shape


def json_of(name: str, array: Array) -> bytes:
    """The output's values in JSON, row-major in one list.

    Floating-point numbers are the shortest that read back as the same bits; NaN is null, as JSON has no other word for
    it. Raises Unacceptable for an infinity: nothing in JSON means it, so its tensor must be asked for as binary data.
    """
    if array.dtype == object:
        return orjson.dumps(array.ravel().tolist())
    said = orjson.dumps(array.ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    if b"null" in said and np.isinf(array).any():
        raise Unacceptable(f"output {name!r} has an infinite value, which JSON cannot hold: ask for it as binary data")
    return said


def _flattened(port: Port, shape: Sequence[int], data: Flat) -> Flat:
    """The values of lists that are nested as the shape says, and not otherwise."""
    level: Flat = [data]
    for size in shape:
        if set(map(type, level)) != {list} or set(map(len, level)) != {size}:
            raise Malformed(f"input {port.name!r} has lists that are not nested as its shape {list(shape)} says")
        level = list(chain.from_iterable(level))
    return level
