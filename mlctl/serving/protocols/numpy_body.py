"""A body that is a NumPy array file (`.npy`, application/x-npy), read without trusting its header.

The format is that of `numpy.lib.format`, versions 1.0 to 3.0, with a plain dtype. NumPy's own reader hands the header
to Python's parser, which a stranger's text may not reach.
"""

import re
from math import prod
from typing import Final

import numpy as np

from mlctl.runtime.running import Port
from mlctl.serving.protocols.open_inference_tensors import Array, array_dtype, check_shape, datatype
from mlctl.serving.refusals import Malformed

_MAGIC: Final = b"\x93NUMPY"
_LENGTH_BYTES: Final = {b"\x01\x00": 2, b"\x02\x00": 4, b"\x03\x00": 4}
_LONGEST_HEADER: Final = 4096
"""Bytes; that of a plain dtype and shape has a hundred."""
_FIELD: Final = re.compile(
    r"\s*(?:'descr'\s*:\s*'(?P<descr>[<>=|]?[A-Za-z][0-9]{0,4})'"
    r"|'fortran_order'\s*:\s*(?P<fortran_order>True|False)"
    r"|'shape'\s*:\s*\((?P<shape>(?:[0-9]{1,18}\s*,\s*)*(?:[0-9]{1,18})?)\s*\))\s*(?:,|(?=\}))"
)


def array_from_npy(body: bytes, port: Port) -> Array:
    """The array of the file, C-ordered, of the dtype and a shape that the port takes.

    Nothing is made before the header's dtype and shape are those that the model takes, and the bytes are as many as
    they need; objects, which could run code, are never read. Raises Malformed.
    """
    fields, content = _parted(body)
    if port.dtype == "object" or fields["descr"] != array_dtype(port).str:
        raise Malformed(f"input {port.name!r} takes {datatype(port)}, not an array of {fields['descr']!r}")
    dtype = array_dtype(port)
    shape = [int(size) for size in re.findall("[0-9]+", fields["shape"])]
    check_shape(port, shape)
    wanted = prod(shape) * dtype.itemsize
    if len(content) != wanted:
        raise Malformed(f"the array file has {len(content):,} bytes of data, and its header says {wanted:,}")
    if port.dtype == "bool" and np.frombuffer(content, np.uint8).max() > 1:
        raise Malformed(f"input {port.name!r} takes BOOL, whose bytes are 0 or 1")
    array = np.frombuffer(content, dtype).reshape(shape, order="F" if fields["fortran_order"] == "True" else "C")
    return np.require(array, requirements=["C", "A"])


def _parted(body: bytes) -> tuple[dict[str, str], memoryview]:
    """What the header says, and the bytes behind it. Raises Malformed."""
    digits = _LENGTH_BYTES.get(body[6:8])
    if not body.startswith(_MAGIC) or digits is None:
        raise Malformed("the body is no NumPy array file of format 1.0, 2.0 or 3.0")
    start = len(_MAGIC) + 2 + digits
    length = int.from_bytes(body[8:start], "little")
    header = body[start : start + min(length, _LONGEST_HEADER)].decode("latin-1")
    fields: dict[str, str] = {}
    place = 1
    while found := _FIELD.match(header, place):
        fields.update({name: value for name, value in found.groupdict().items() if value is not None})
        place = found.end()
    if len(header) != length or header[:1] != "{" or header[place:].strip() != "}" or len(fields) != 3:
        raise Malformed("the NumPy array file has no header with a plain dtype, an order and a shape")
    return fields, memoryview(body)[start + length :]
