"""Arrays of `.npz` files, as batches. Nothing is unpickled, and memory holds one batch.

What is refused before a value is read: members that are no plain `.npy` arrays, names that could not be a file's,
dtypes other than three, more bytes than the compressed file can honestly hold.
"""

import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import IO, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import BadRow, Batch, Source, SourceInput, given_splits
from mlctl.data.compressed import MOST_INFLATED
from mlctl.data.origin import Origin
from mlctl.errors import DataError

BATCH_BYTES = 4 << 20
MOST_ARRAYS = 64
MOST_ROW_BYTES = 256 << 20
"""A batch holds a row at least, so no row may be larger than memory can be asked for."""

DTYPES = {np.dtype(name): name for name in ("uint8", "float32", "int64")}
RESERVED = ("target", "row")
"""Names of prepared data's own arrays."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,99}")
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError)
_STORED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_MEND = "save plain arrays with `numpy.savez(path, name=array)`, one row of each for every sample"

Header: TypeAlias = tuple[tuple[int, ...], bool, "np.dtype[Any]"]


@dataclass(frozen=True)
class StoredArray:
    """One array of a file: its name, how many rows it has, and the dtype and shape of one."""

    name: str
    rows: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


def stored_arrays(origin: Origin) -> tuple[StoredArray, ...]:
    """The arrays in the file, in its order.

    Raises DataError for what is no archive of plain arrays with as many rows each.
    """
    with _opened(origin) as archive:
        members = archive.infolist()
        _check_archive(origin, members)
        found = []
        for member in members:
            with archive.open(member) as stream:
                found.append(_stored_array(origin, member, _header(stream)))
    for each in found:
        if each.rows != found[0].rows:
            what = f"the array {found[0].name!r} has {found[0].rows:,} rows, {each.name!r} has {each.rows:,}"
            raise DataError(
                what, where=origin.name, next="give every array one row for every sample, in the same order"
            )
    if not found[0].rows:
        raise DataError("the arrays have no rows", where=origin.name, next="give a file with rows")
    return tuple(found)


def open_arrays(origins: Sequence[Origin]) -> Source:
    """Every array of the files as an input of its own, in its own dtype. Raises DataError as `array_inputs`."""
    arrays = array_inputs(origins)
    inputs = tuple(SourceInput(each.name, each.shape, (), ("values",), each.dtype) for each in arrays)
    return Source(array_batches(origins, arrays), inputs)


def array_inputs(origins: Sequence[Origin]) -> tuple[StoredArray, ...]:
    """The arrays that all files hold, in the order of the first one.

    Raises DataError where a file differs from the first in names, dtypes or shapes of rows, and as `stored_arrays`.
    """
    first = stored_arrays(origins[0])
    for origin in origins[1:]:
        kinds = {each.name: (each.dtype, each.shape) for each in stored_arrays(origin)}
        if kinds != {each.name: (each.dtype, each.shape) for each in first}:
            raise DataError(
                f"the arrays differ in name, dtype or shape from those of {origins[0].name}",
                where=origin.name,
                next="give every file the same arrays",
            )
    return first


def array_batches(
    origins: Sequence[Origin], arrays: Sequence[StoredArray], batch_bytes: int = BATCH_BYTES
) -> Iterator[Batch]:
    """The rows of every file in turn, with targets of no numbers, float32 [rows, 0].

    A row that holds a number that is not finite is bad. Raises DataError for a file that ends early or is damaged.
    """
    size = max(1, batch_bytes // max(1, sum(each.row_bytes for each in arrays)))
    finished, first_row = 0, 0
    for origin in origins:
        rows, file_bytes = stored_arrays(origin)[0].rows, origin.path.stat().st_size
        for start, inputs in _batches(origin, arrays, rows, size):
            stop = start + len(inputs[0])
            yield _batch(origin, arrays, inputs, (start, first_row), finished + file_bytes * stop // rows)
        finished += file_bytes
        first_row += rows


@contextmanager
def _opened(origin: Origin) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(origin.path) as archive:
            yield archive
    except _DAMAGED as error:
        raise DataError(f"the arrays cannot be read: {error}", where=origin.name, next=_MEND) from error


def _check_archive(origin: Origin, members: Sequence[zipfile.ZipInfo]) -> None:
    names = [member.filename for member in members]
    if not 0 < len(names) <= MOST_ARRAYS:
        raise DataError(f"the file holds {len(names)} arrays, not 1 to {MOST_ARRAYS}", where=origin.name, next=_MEND)
    if len(set(names)) < len(names):
        raise DataError("the file holds two arrays of one name", where=origin.name, next=_MEND)
    for member in members:
        if member.flag_bits & 1 or member.compress_type not in _STORED:
            what = f"the member {member.filename!r} is encrypted, or compressed in a way that NumPy does not write"
            raise DataError(what, where=origin.name, next=_MEND)
    declared, actual = sum(member.file_size for member in members), origin.path.stat().st_size
    if declared > MOST_INFLATED * actual:
        raise DataError(
            f"{actual:,} bytes declare {declared:,} bytes of arrays, more than compression can make of them",
            where=origin.name,
            next="do not use this file; ask whoever made it for another",
        )


def _header(stream: IO[bytes]) -> Header:
    version = np.lib.format.read_magic(stream)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"a header of version {version} is read nowhere")
    shape, is_fortran, dtype = readers[version](stream)
    return shape, is_fortran, dtype


def _stored_array(origin: Origin, member: zipfile.ZipInfo, header: Header) -> StoredArray:
    name = member.filename.removesuffix(".npy")
    if name == member.filename or not _NAME.fullmatch(name) or name in RESERVED:
        raise DataError(
            f"the member {member.filename!r} cannot be an input's name",
            where=origin.name,
            next=f"name arrays with letters, digits, '_', '.' and '-', not {' or '.join(RESERVED)}; an ONNX input of "
            "another name takes them by position",
        )
    shape, is_fortran, dtype = header
    flaw = _flaw(shape, is_fortran, dtype)
    if flaw:
        raise DataError(f"the array {name!r} {flaw}", where=origin.name, next=_MEND)
    return StoredArray(name, shape[0], DTYPES[dtype], shape[1:])


def _flaw(shape: tuple[int, ...], is_fortran: bool, dtype: "np.dtype[Any]") -> str | None:
    if dtype not in DTYPES:
        return f"is of dtype {dtype.str}; arrays are of {', '.join(DTYPES.values())}, in this machine's byte order"
    if not shape or 0 in shape[1:]:
        return f"has the shape {list(shape)}: no rows, or rows of no numbers"
    if prod(shape[1:]) * dtype.itemsize > MOST_ROW_BYTES:
        return f"has rows of more than {MOST_ROW_BYTES:,} bytes"
    if is_fortran and len(shape) > 1:
        return "is stored column by column; save `numpy.ascontiguousarray` of it"
    return None


def _batches(
    origin: Origin, arrays: Sequence[StoredArray], rows: int, size: int
) -> Iterator[tuple[int, tuple[NDArray[Any], ...]]]:
    """The position of a batch's first row, and its rows of every array."""
    with _opened(origin) as archive, ExitStack() as stack:
        streams = [stack.enter_context(archive.open(f"{each.name}.npy")) for each in arrays]
        for stream in streams:
            _header(stream)
        for start in range(0, rows, size):
            count = min(size, rows - start)
            yield start, tuple(_read(stream, each, count) for stream, each in zip(streams, arrays, strict=True))
        for stream in streams:
            # Only at its end does an archive compare a member with its checksum.
            if stream.read(1):
                raise ValueError("an array is longer than its header says")


def _read(stream: IO[bytes], array: StoredArray, count: int) -> NDArray[Any]:
    raw = stream.read(count * array.row_bytes)
    if len(raw) < count * array.row_bytes:
        raise EOFError(f"the array {array.name!r} ends early")
    return np.frombuffer(raw, dtype=array.dtype).reshape(count, *array.shape)


def _batch(
    origin: Origin,
    arrays: Sequence[StoredArray],
    inputs: tuple[NDArray[Any], ...],
    places: tuple[int, int],
    position: int,
) -> Batch:
    """The usable rows; `places` are the batch's first row in its file, and the file's first row in the source."""
    in_file, before = places
    count = len(inputs[0])
    finite = [np.isfinite(values).reshape(count, -1).all(axis=1) for values in inputs]
    is_usable = np.logical_and.reduce(finite)
    bad = tuple(
        BadRow(origin.name, None, f"row {in_file + row} of {names} holds a number that is not finite")
        for row in np.flatnonzero(~is_usable).tolist()
        for names in [" and ".join(repr(each.name) for each, good in zip(arrays, finite, strict=True) if not good[row])]
    )
    whole = Batch(
        inputs=inputs,
        targets=np.empty((count, 0), np.float32),
        splits=given_splits(origin, count),
        rows=np.arange(before + in_file, before + in_file + count),
        bad=bad,
        position=position,
    )
    return whole if is_usable.all() else whole.only(is_usable)
