"""A graph on disk without its weights: what they are called and how large they are, and where their bytes lie.

A file is walked field by field as protobuf writes it (protobuf.dev, "Encoding"), and the bytes of large tensors are
passed over, so that a model of any size takes as much memory as its nodes.
"""

import errno
import mmap
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
from google.protobuf.message import DecodeError
from onnx.external_data_helper import set_external_data

from mlctl.errors import DataError
from mlctl.graphs.inspection import graph_files

DATA_NAME: Final = "outline.weights"

_GRAPH: Final = onnx.ModelProto.DESCRIPTOR.fields_by_name["graph"].number
_INITIALIZER: Final = onnx.GraphProto.DESCRIPTOR.fields_by_name["initializer"].number
_RAW_DATA: Final = onnx.TensorProto.DESCRIPTOR.fields_by_name["raw_data"].number
_LARGE: Final = 1024
"""Bytes of an initializer that is left on disk; smaller ones may be shapes, which a graph cannot be read without."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What is wrong with the disk that is written to, and not with the model."""

_ALIGNMENT: Final = 4096
"""Offsets at which a file can be mapped into memory; the specification of external data asks for them."""


@dataclass(frozen=True)
class _Field:
    """One field of a message: its number, where it begins, and where its content lies."""

    number: int
    start: int
    content: int
    end: int


def outline(path: Path, folder: Path) -> onnx.ModelProto:
    """The model at `path` with the bytes of its large initializers in files of `folder`, as external data.

    Written into `folder`, the outline is a model that ONNX Runtime loads without a copy of its weights in memory. Data
    that were external before are linked there. Raises DataError for a file that is no ONNX model, and OSError where
    the folder has no room.
    """
    with (folder / DATA_NAME).open("wb") as weights:
        model = _read(path, weights.fileno())
    for file in graph_files(path, _external_before(model))[1:]:
        _link(file, folder / file.relative_to(path.parent.resolve()))
    return model


def weightless(path: Path) -> onnx.ModelProto:
    """The model at `path` with the names, types and shapes of its large initializers, and none of their data.

    Raises DataError for a file that is no ONNX model.
    """
    return _read(path, None)


def _read(path: Path, weights: int | None) -> onnx.ModelProto:
    """The model, with the bytes of large initializers in the open file `weights` where there is one."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _walked(content, stream.fileno(), weights)
    except (OSError, ValueError, IndexError, DecodeError) as refusal:
        if isinstance(refusal, OSError) and refusal.errno in _NO_ROOM:
            raise
        raise DataError(f"this is no ONNX model: {refusal}", where=path, next="make the file again") from refusal


def _walked(content: mmap.mmap, descriptor: int, weights: int | None) -> onnx.ModelProto:
    model = onnx.ModelProto()
    for field in _fields(content, 0, len(content)):
        if field.number != _GRAPH:
            model.MergeFromString(content[field.start : field.end])
            continue
        for inner in _fields(content, field.content, field.end):
            if inner.number == _INITIALIZER and inner.end - inner.content > _LARGE:
                model.graph.initializer.append(_without_bytes(content, inner, descriptor, weights))
            else:
                model.graph.MergeFromString(content[inner.start : inner.end])
    return model


def _without_bytes(content: mmap.mmap, tensor: _Field, source: int, target: int | None) -> onnx.TensorProto:
    found = onnx.TensorProto()
    for field in _fields(content, tensor.content, tensor.end):
        if field.number != _RAW_DATA or field.end - field.content <= _LARGE:
            found.MergeFromString(content[field.start : field.end])
            continue
        if target is None:
            continue
        offset = -(-os.lseek(target, 0, os.SEEK_END) // _ALIGNMENT) * _ALIGNMENT
        os.ftruncate(target, offset)
        os.lseek(target, 0, os.SEEK_END)
        copied = 0
        while copied < field.end - field.content:
            copied += os.sendfile(target, source, field.content + copied, field.end - field.content - copied)
        # Only raw data can be external; the helper wants to see it.
        found.raw_data = b""
        set_external_data(found, DATA_NAME, offset=offset, length=copied)
        found.ClearField("raw_data")
    return found


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[_Field]:
    position = start
    while position < end:
        tag, after = _varint(content, position)
        kind = tag & 7
        if kind == 2:
            length, content_start = _varint(content, after)
            following = content_start + length
        else:
            content_start = after
            following = _varint(content, after)[1] if kind == 0 else after + {1: 8, 5: 4}.get(kind, end)
        if following > end:
            raise ValueError("it ends within a field; the file is cut off or damaged")
        yield _Field(tag >> 3, position, content_start, following)
        position = following


def _varint(content: mmap.mmap, position: int) -> tuple[int, int]:
    """The number that begins at `position`, seven bits a byte, and the position after it."""
    value, shift = 0, 0
    while shift < 64:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
    raise ValueError("it holds a number of more than 64 bits")


def _external_before(model: onnx.ModelProto) -> onnx.ModelProto:
    """A model of those initializers alone whose data lay in files of their own already."""
    found = onnx.ModelProto()
    found.graph.initializer.extend(
        tensor
        for tensor in model.graph.initializer
        if tensor.external_data and not any(entry.value == DATA_NAME for entry in tensor.external_data)
    )
    return found


def _link(file: Path, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, place)
    except OSError:  # another file system
        with file.open("rb") as source, place.open("wb") as target:
            while os.sendfile(target.fileno(), source.fileno(), None, 1 << 30):
                pass
