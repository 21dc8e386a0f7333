"""A graph on disk: one file, or two where the weights are large; the same graph gives the same bytes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import onnx
from google.protobuf.message import EncodeError
from onnx.external_data_helper import load_external_data_for_model, set_external_data

from mlctl.errors import DataError, Unsupported
from mlctl.graphs.inspection import graphs, read_graph, stored_tensors

FILE_NAME = "model.onnx"
DATA_NAME = "model.onnx.data"

LARGEST_FILE = 1_500_000_000
"""Bytes of tensors that still go into one file; protobuf ends at 2^31, and the graph needs room too."""

_SMALLEST_OUTSIDE = 1024
"""Bytes of a tensor that is worth a place in the second file; shapes and scalars stay where they can be read."""

_ALIGNMENT = 4096
"""Offsets at which a file can be mapped into memory; the specification of external data asks for them."""

_BITS: dict[int, int] = {
    onnx.TensorProto.INT2: 2,
    onnx.TensorProto.UINT2: 2,
    onnx.TensorProto.INT4: 4,
    onnx.TensorProto.UINT4: 4,
    onnx.TensorProto.FLOAT4E2M1: 4,
}
"""Types whose elements share a byte."""


@dataclass(frozen=True)
class _Place:
    """Where a tensor's bytes lie outside of its graph's file."""

    location: str
    offset: int
    length: int


def save_graph(
    proto: onnx.ModelProto,
    folder: Path,
    *,
    external_above: int = LARGEST_FILE,
    name: str = FILE_NAME,
    beside: Path | None = None,
) -> Path:
    """Write `proto` into `folder` as `name`, over what stood there, and return that file's path.

    With more than `external_above` bytes of tensors, initializers of 1 kB and more lie in `NAME.data` beside it
    (onnx.ai, "External Data"); those whose bytes are among the external data of the graph `beside`, in the same
    folder, lie there, and count for nothing. `proto` holds all its data, as `load_graph` gives it, and is left as it
    was, but that such initializers may be stored raw afterwards. Raises Unsupported for a graph above 2 GiB without
    those, and ValueError when its external data were not loaded.
    """
    if any(each.data_location == onnx.TensorProto.EXTERNAL for each in stored_tensors(proto)):
        raise ValueError("the model's external data were not loaded")
    path, data = folder / name, folder / f"{name}.data"
    data.unlink(missing_ok=True)
    there = _external_places(beside) if beside else {}
    large = _large_initializers(proto)
    places = [(each, there[key]) for each in large if there and (key := _digest(each)) in there]
    shared = {id(each) for each, _ in places}
    if sum(tensor_bytes(each) for each in stored_tensors(proto) if id(each) not in shared) > external_above:
        places += _laid_out([each for each in large if id(each) not in shared], data)
    with _pointing_out(places):
        path.write_bytes(_serialized(proto))
    return path


def _external_places(path: Path) -> dict[bytes, _Place]:
    """Where the external data of the graph at `path` lie, by the digest of each tensor's bytes."""
    found = {}
    for tensor in stored_tensors(read_graph(path)):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {each.key: each.value for each in tensor.external_data}
        place = _Place(entries["location"], int(entries["offset"]), int(entries["length"]))
        with (path.parent / place.location).open("rb") as stream:
            stream.seek(place.offset)
            found[sha256(stream.read(place.length)).digest()] = place
    return found


def _digest(tensor: onnx.TensorProto) -> bytes:
    return sha256(_raw(tensor)).digest()


def load_graph(path: Path) -> onnx.ModelProto:
    """The model at `path` with all its data in memory.

    Raises DataError when the file is no ONNX model, or when its external data lie outside its own folder, are missing
    or too short.
    """
    model = read_graph(path)
    try:
        load_external_data_for_model(model, str(path.parent))
    except (ValueError, OSError, onnx.checker.ValidationError) as refusal:
        raise DataError(
            f"the model's external data cannot be read: {refusal}",
            where=path,
            next="copy the model together with its data files, or make them again",
        ) from refusal
    for tensor in stored_tensors(model):
        # The default, written out: without it a graph is the same whether its data lay in one file or two.
        if tensor.data_location == onnx.TensorProto.DEFAULT:
            tensor.ClearField("data_location")
    return model


def tensor_bytes(tensor: onnx.TensorProto) -> int:
    """Bytes of the tensor's elements as they are stored raw, wherever they lie; a text takes its own length."""
    if tensor.data_type == onnx.TensorProto.STRING:
        return sum(len(text) for text in tensor.string_data)
    whole_bits: int = 8 * int(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
    elements: int = math.prod(tensor.dims)
    return (elements * _BITS.get(tensor.data_type, whole_bits) + 7) // 8


def _serialized(proto: onnx.ModelProto) -> bytes:
    try:
        content: bytes = proto.SerializeToString(deterministic=True)
    except (EncodeError, ValueError) as refusal:
        raise Unsupported(
            "the graph without its initializers is above 2 GiB, where ONNX files end",
            next="store large constants as parameters or buffers of the network",
        ) from refusal
    return content


def _laid_out(tensors: Sequence[onnx.TensorProto], data: Path) -> list[tuple[onnx.TensorProto, _Place]]:
    """Write the tensors into the file `data`; where each lies there."""
    places = []
    with data.open("wb") as stream:
        for tensor in tensors:
            raw = _raw(tensor)
            stream.write(bytes(-stream.tell() % _ALIGNMENT))
            places.append((tensor, _Place(data.name, stream.tell(), len(raw))))
            stream.write(raw)
    return places


@contextmanager
def _pointing_out(places: Sequence[tuple[onnx.TensorProto, _Place]]) -> Iterator[None]:
    """Within it the tensors point to their places, and hold no bytes of their own."""
    held = [(tensor, tensor.raw_data) for tensor, _ in places]
    try:
        for tensor, place in places:
            set_external_data(tensor, place.location, offset=place.offset, length=place.length)
            tensor.ClearField("raw_data")
        yield
    finally:
        for tensor, raw in held:
            tensor.raw_data = raw
            tensor.ClearField("data_location")
            del tensor.external_data[:]


def _large_initializers(proto: onnx.ModelProto) -> list[onnx.TensorProto]:
    return [
        tensor
        for graph in graphs(proto.graph)
        for tensor in graph.initializer
        if tensor.data_type != onnx.TensorProto.STRING and tensor_bytes(tensor) >= _SMALLEST_OUTSIDE
    ]


def _raw(tensor: onnx.TensorProto) -> bytes:
    """The tensor's elements as raw bytes, which it holds itself afterwards."""
    if not tensor.HasField("raw_data"):
        stored_raw = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name)
        tensor.ClearField(onnx.helper.tensor_dtype_to_field(tensor.data_type))
        tensor.raw_data = stored_raw.raw_data
    return tensor.raw_data
