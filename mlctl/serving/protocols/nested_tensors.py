"""Tensors as nested lists of JSON, both ways."""

from base64 import b64encode
from collections.abc import Sequence
from itertools import chain
from math import prod
from typing import Any, TypeAlias

import numpy as np

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.serving.protocols.bodies import from_base64, is_base64_object
from mlctl.serving.protocols.json_tensors import from_nested
from mlctl.serving.protocols.open_inference_tensors import Array, check_shape, from_values, open_shape
from mlctl.serving.refusals import Malformed
from mlctl.serving.signature import Signature

Jsonable: TypeAlias = Any
"""What orjson writes: JSON values, with contiguous arrays of numbers among them."""


def tensor(port: Port, nested: object) -> Array:
    """The input that nested lists are, of the port's dtype and shape; its texts may be `{"b64": ...}`.

    Raises Malformed for another shape, ragged lists, and values that the port does not take.
    """
    return from_nested(port, _decoded(nested, len(port.shape)) if port.dtype == "object" else nested)


def row_tensor(port: Port, rows: Sequence[object]) -> Array:
    """The input whose rows are flat lists of values, or single values, that fill each row's shape in order.

    At most one size of the row may be open. Raises Malformed.
    """
    sizes = port.shape[1:]
    flat = [row if isinstance(row, list) else [row] for row in rows]
    counts = set(map(len, flat))
    if len(counts) != 1:
        raise Malformed(f"input {port.name!r} takes as many values in every row")
    fixed = prod(size for size in sizes if size is not None)
    count = counts.pop()
    if sizes.count(None) > 1 or fixed == 0 or count % fixed:
        raise Malformed(f"input {port.name!r} takes rows of the shape {open_shape(port)[1:]}, not of {count} values")
    shape = [len(rows), *(count // fixed if size is None else size for size in sizes)]
    check_shape(port, shape)
    values: list[Any] = list(chain.from_iterable(flat))
    return from_values(port, shape, _decoded(values, 1) if port.dtype == "object" else values)


def in_rows(signature: Signature, parts: Sequence[Arrays]) -> Jsonable:
    """For every row what the graph gives: the value of its one output, or an object of all by name."""
    columns = [[jsonable(port, part[place]) for part in parts] for place, port in enumerate(signature.outputs)]
    if len(columns) == 1:
        return columns[0][0] if len(parts) == 1 else list(chain.from_iterable(map(_rows, columns[0])))
    names = [port.name for port in signature.outputs]
    joined = [chain.from_iterable(map(_rows, column)) for column in columns]
    return [dict(zip(names, row, strict=True)) for row in zip(*joined, strict=True)]


def in_columns(signature: Signature, parts: Sequence[Arrays]) -> Jsonable:
    """For every output all of its rows; without its name where there is but one output."""
    found = {}
    for place, port in enumerate(signature.outputs):
        columns = [jsonable(port, part[place]) for part in parts]
        found[port.name] = columns[0] if len(columns) == 1 else list(chain.from_iterable(map(_rows, columns)))
    return next(iter(found.values())) if len(found) == 1 else found


def jsonable(port: Port, array: Array) -> Jsonable:
    """An output as orjson writes it. Texts of an output whose name ends in `_bytes` become `{"b64": ...}`."""
    if port.dtype == "bfloat16":
        array = (array.astype(np.uint32) << 16).view(np.float32)
    if array.dtype != object:
        return np.ascontiguousarray(array) if array.ndim else array.item()
    return _encoded(array.tolist()) if port.name.endswith("_bytes") else array.tolist()


def _rows(column: Jsonable) -> list[Jsonable]:
    """An output's rows; orjson writes no arrays without a dimension."""
    if not isinstance(column, np.ndarray):
        return list(column)
    return column.tolist() if column.ndim == 1 else list(column)


def _decoded(nested: object, depth: int) -> Any:
    """The nested lists with bytes for every `{"b64": ...}`, no deeper than so many lists."""
    if is_base64_object(nested):
        return from_base64(nested["b64"])
    return [_decoded(each, depth - 1) for each in nested] if isinstance(nested, list) and depth else nested


def _encoded(nested: Any) -> Jsonable:
    if isinstance(nested, list):
        return [_encoded(each) for each in nested]
    return {"b64": b64encode(nested if isinstance(nested, bytes) else str(nested).encode()).decode()}
