"""Text, plain or compressed, as blocks of whole rows of known line numbers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlctl.data.compressed import opened
from mlctl.data.origin import Origin
from mlctl.errors import DataError

BLOCK_BYTES = 4 << 20
LONGEST_ROW_BYTES = 64 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Block:
    """Whole rows of a file: UTF-8 text that begins at the start of line `first_line` (from 1).

    `position` counts the bytes of the file (compressed, where it is) that were read up to here.
    """

    text: bytes
    first_line: int
    position: int

    def after(self, end: int) -> "Block":
        """The block without its first `end` bytes."""
        return Block(self.text[end:], self.first_line + self.text.count(b"\n", 0, end), self.position)


def row_blocks(
    origin: Origin,
    end_of_rows: Callable[[bytes], int],
    is_whole: Callable[[bytes], bool],
    block_bytes: int = BLOCK_BYTES,
) -> Iterator[Block]:
    """The file's text in blocks of about `block_bytes`; the same blocks every time.

    `end_of_rows` gives the position behind the last line feed of a text that ends a row, 0 where no row ends;
    `is_whole` says whether what stands behind it at the end of the file is whole rows.

    Raises DataError for a file that cannot be read, a damaged stream, text that is not UTF-8, and a row that does not
    end or has more than 64 MiB.
    """
    line, rest, position = 1, b"", 0
    for chunk, position in _chunks(origin, block_bytes):
        text = rest + chunk
        end = end_of_rows(text)
        if end:
            yield Block(_checked(text[:end], line, origin), line, position)
        line += text.count(b"\n", 0, end)
        rest = text[end:]
        if len(rest) > LONGEST_ROW_BYTES:
            raise _endless(origin, line)
    if not is_whole(rest):
        raise _endless(origin, line)
    if rest:
        yield Block(_checked(rest, line, origin), line, position)


def _chunks(origin: Origin, size: int) -> Iterator[tuple[bytes, int]]:
    """Chunks of decompressed bytes without the byte order mark, each with the position in the file."""
    with opened(origin.path, origin.name) as stream:
        # One byte more than the mark at least, for an empty chunk is the end.
        chunk = stream.read(max(size, len(_BYTE_ORDER_MARK) + 1)).removeprefix(_BYTE_ORDER_MARK)
        while chunk:
            yield chunk, stream.position
            chunk = stream.read(size)


def _checked(text: bytes, first_line: int, origin: Origin) -> bytes:
    """`text` itself, which is UTF-8."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        what = f"the text is not UTF-8 (byte 0x{text[error.start]:02x})"
        raise DataError(what, where=f"{origin.name}:{line}", next="save the file as UTF-8") from error
    return text


def _endless(origin: Origin, line: int) -> DataError:
    return DataError(
        f"this row does not end: a quote is never closed, or it is longer than {LONGEST_ROW_BYTES >> 20} MiB",
        where=f"{origin.name}:{line}",
        next="mend the quotes of this row",
    )
