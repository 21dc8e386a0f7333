"""TensorBoard's event files: scalars over steps, written with nothing but the standard library.

A file is a series of records, as TensorFlow's `record_writer` writes them: 8 bytes of length, their checksum, the data,
its checksum; numbers are little-endian, a checksum is a masked CRC-32C. The data is a protocol buffer `Event`
(tensorflow/core/util/event.proto) with a `Summary` of simple values.
"""

import struct
from collections.abc import Iterable, Iterator
from pathlib import Path

VERSION = b"brain.Event:2"
FILE_NAME = "events.out.tfevents.mlctl"
MASK_DELTA = 0xA282EAD8
POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed (RFC 3720, appendix B.4)
HEADER_BYTES, FOOTER_BYTES = 12, 4


class EventFile:
    """One event file that is only ever appended to, a record for each step; a step is never written twice."""

    def __init__(self, folder: Path, *, goes_on: bool) -> None:
        """Begins the file in the folder anew, or goes on with what it has: all but a record that was cut off.

        Raises OSError.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / FILE_NAME
        self.steps: set[int] = set()
        whole = 0
        if goes_on and self.path.exists():
            for record, end in _records(self.path.read_bytes()):
                self.steps |= _steps(record)
                whole = end
        with self.path.open("ab") as stream:
            stream.truncate(whole)
        if not whole:
            self._append(_double(1, 0.0) + _text(3, VERSION))

    def write(self, step: int, scalars: Iterable[tuple[str, float]], wall_time: float) -> None:
        """Append the scalars of a step in one piece, unless the file has the step; seconds since 1970. Raises OSError.

        A value is kept as float32.
        """
        if step in self.steps:
            return
        values = b"".join(_text(1, _text(1, tag.encode()) + _float(2, value)) for tag, value in scalars)
        self._append(_double(1, wall_time) + _number(2, step) + _text(5, values))
        self.steps.add(step)

    def _append(self, event: bytes) -> None:
        length = struct.pack("<Q", len(event))
        with self.path.open("ab", buffering=0) as stream:
            stream.write(length + _checksum(length) + event + _checksum(event))


def _records(content: bytes) -> Iterator[tuple[bytes, int]]:
    """Every whole record's data, and where the record ends, up to the first that is damaged or cut off."""
    start = 0
    while start + HEADER_BYTES <= len(content):
        length = content[start : start + 8]
        end = start + HEADER_BYTES + int.from_bytes(length, "little") + FOOTER_BYTES
        data = content[start + HEADER_BYTES : end - FOOTER_BYTES]
        is_whole = end <= len(content) and content[start + 8 : start + HEADER_BYTES] == _checksum(length)
        if not is_whole or content[end - FOOTER_BYTES : end] != _checksum(data):
            return
        yield data, end
        start = end


def _steps(event: bytes) -> set[int]:
    """The step of an event that this file wrote; none for the first, which says the version."""
    if len(event) < 10 or event[9] != 2 << 3:
        return set()
    step = shift = 0
    for byte in event[10:]:
        step |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return {step}


def _double(field: int, value: float) -> bytes:
    return bytes([field << 3 | 1]) + struct.pack("<d", value)


def _float(field: int, value: float) -> bytes:
    return bytes([field << 3 | 5]) + struct.pack("<f", value)


def _number(field: int, value: int) -> bytes:
    return bytes([field << 3]) + _varint(value)


def _text(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])


def _checksum(data: bytes) -> bytes:
    found = crc32c(data)
    return struct.pack("<I", ((found >> 15 | found << 17) + MASK_DELTA) & 0xFFFFFFFF)


def _table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ POLYNOMIAL * (value & 1)
        table.append(value)
    return tuple(table)


CRC_TABLE = _table()


def crc32c(data: bytes) -> int:
    """The CRC-32C of the data (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = CRC_TABLE[(value ^ byte) & 0xFF] ^ value >> 8
    return value ^ 0xFFFFFFFF
