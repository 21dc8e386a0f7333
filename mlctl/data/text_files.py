"""Plain text files, compressed or not, as blocks of UTF-8."""

from collections.abc import Iterator

from mlctl.data.compressed import opened
from mlctl.data.origin import Origin
from mlctl.errors import DataError

BLOCK_BYTES = 1 << 18
"""A gigabyte in blocks four times as large left three times as much memory in pieces that the system did not get back.
"""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (0xFE, 0xFF)


def text_blocks(origin: Origin, block_bytes: int = BLOCK_BYTES) -> Iterator[tuple[bytes, int]]:
    """The file's text in blocks of about `block_bytes` that hold whole characters, each with how many bytes of the
    file (compressed, where it is) are read by then.

    The text stays as it is, line ends and all; only a byte order mark at its beginning is left out. Raises DataError,
    with line and byte, for what is not UTF-8, and for a file that is damaged or cannot be read.
    """
    rest, before, line = b"", 0, 1
    with opened(origin.path, origin.name) as stream:
        chunk = stream.read(block_bytes + len(_BYTE_ORDER_MARK)).removeprefix(_BYTE_ORDER_MARK)
        while chunk:
            text = rest + chunk
            end = whole_characters(text)
            _require_utf8(text[:end], origin, before, line)
            if end:
                yield text[:end], stream.position
            before, line, rest = before + end, line + text.count(b"\n", 0, end), text[end:]
            chunk = stream.read(block_bytes)
    if rest:
        raise _not_utf8(origin, rest[0], before, line)


def whole_characters(text: bytes) -> int:
    """How many bytes of UTF-8 stand before a last character that is cut off; all, where none is."""
    for back in range(1, min(4, len(text)) + 1):
        byte = text[-back]
        if byte & 0xC0 != 0x80:
            return len(text) - back if back < _length(byte) else len(text)
    return len(text)


def _length(first: int) -> int:
    """Bytes of the character that begins with this one."""
    return 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4


def _require_utf8(text: bytes, origin: Origin, before: int, line: int) -> None:
    if text.isascii():
        return
    try:
        text.decode()
    except UnicodeDecodeError as error:
        lines = line + text.count(b"\n", 0, error.start)
        raise _not_utf8(origin, text[error.start], before + error.start, lines) from error


def _not_utf8(origin: Origin, byte: int, offset: int, line: int) -> DataError:
    what = f"the text is not UTF-8 (byte 0x{byte:02x} at offset {offset:,})"
    looks = "; it looks like UTF-16" if offset == 0 and byte in _UTF16_MARKS else ""
    return DataError(
        what + looks, where=f"{origin.name}:{line}", next="save the file as UTF-8, as `iconv -t UTF-8` does"
    )
