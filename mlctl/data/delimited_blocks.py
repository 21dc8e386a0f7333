"""Delimited text, plain or gzip, as blocks of whole rows of known line numbers."""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path

from mlctl.errors import DataError

BLOCK_BYTES = 4 << 20
LONGEST_ROW_BYTES = 64 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NOT_BLANK = re.compile(rb"[^\r\n][^\n]*")


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


def delimiter_of(path: Path) -> str:
    """A tab for .tsv, a comma for everything else; a final .gz does not count."""
    return "\t" if path.name.lower().removesuffix(".gz").endswith(".tsv") else ","


def blocks(path: Path, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's rows, header included, in blocks of about `block_bytes`; the same blocks every time.

    Raises DataError for a file that cannot be read, damaged gzip, text that is not UTF-8, a quote that is never
    closed, and a row of more than 64 MiB.
    """
    delimiter = delimiter_of(path)
    line, rest, position = 1, b"", 0
    for chunk, position in _chunks(path, block_bytes):
        text = rest + chunk
        end = _end_of_rows(text, delimiter)
        if end:
            yield Block(_checked(text[:end], line, path), line, position)
        line += text.count(b"\n", 0, end)
        rest = text[end:]
        if len(rest) > LONGEST_ROW_BYTES:
            raise _endless(path, line)
    if any(not match[2] for match in _long_values(rest, delimiter)):
        raise _endless(path, line)
    if rest:
        yield Block(_checked(rest, line, path), line, position)


def count_rows(block: Block, path: Path) -> int:
    """How many rows a block of the file at `path` holds, blank lines not counted."""
    lines = len(_NOT_BLANK.findall(block.text))
    return lines - sum(len(_NOT_BLANK.findall(match[1])) - 1 for match in _long_values(block.text, delimiter_of(path)))


def _chunks(path: Path, size: int) -> Iterator[tuple[bytes, int]]:
    """Chunks of decompressed bytes without the byte order mark, each with the position in the file."""
    again = "fetch the file again; what is here is damaged"
    try:
        with path.open("rb") as raw:
            stream: BufferedIOBase = gzip.GzipFile(fileobj=raw) if path.suffix.lower() == ".gz" else raw
            chunk = stream.read(size).removeprefix(_BYTE_ORDER_MARK)
            while chunk:
                yield chunk, raw.tell()
                chunk = stream.read(size)
    except EOFError as error:
        raise DataError("the gzip stream breaks off before its end", where=path, next=again) from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"this is not intact gzip ({error})", where=path, next=again) from error
    except OSError as error:
        raise DataError(
            f"the file cannot be read: {error.strerror}", where=path, next="mend the path or its permissions"
        ) from error


def _long_value(delimiter: str) -> re.Pattern[bytes]:
    """Matches everything up to and with the next quoted value that holds a line feed or is never closed.

    Group 1 is that value, group 2 its closing quote, empty where there is none. A quote elsewhere than at a value's
    start is text, for pyarrow and for Python's csv alike.
    """
    start = rb"(?:\A|(?<=[\n\r" + re.escape(delimiter.encode()) + rb"]))"
    elsewhere = rb"(?!\A)(?<![\n\r" + re.escape(delimiter.encode()) + rb"])"
    skipped = rb'(?:[^"]++|' + start + rb'"(?:[^"\n]++|"")*+"|' + elsewhere + rb'")*+'
    return re.compile(skipped + rb'("(?:[^"]++|"")*+("?))')


def _long_values(text: bytes, delimiter: str) -> Iterator[re.Match[bytes]]:
    """Every quoted value that holds a line feed, and the one that is never closed."""
    pattern, position = _long_value(delimiter), 0
    while b'"' in text and (match := pattern.match(text, position)):
        yield match
        position = match.end()


def _end_of_rows(text: bytes, delimiter: str) -> int:
    """The position behind the last line feed of `text` that ends a row; 0 where no row ends."""
    end = text.rfind(b"\n") + 1
    for start, stop in reversed([match.span(1) for match in _long_values(text, delimiter)]):
        if start < end <= stop:
            end = text.rfind(b"\n", 0, start) + 1
    return end


def _checked(text: bytes, first_line: int, path: Path) -> bytes:
    """`text` itself, which is UTF-8."""
    if text.isascii():
        return text
    try:
        text.decode()
    except UnicodeDecodeError as error:
        line = first_line + text.count(b"\n", 0, error.start)
        what = f"the text is not UTF-8 (byte 0x{text[error.start]:02x})"
        raise DataError(what, where=f"{path}:{line}", next="save the file as UTF-8") from error
    return text


def _endless(path: Path, line: int) -> DataError:
    return DataError(
        f"this row does not end: a quote is never closed, or it is longer than {LONGEST_ROW_BYTES >> 20} MiB",
        where=f"{path}:{line}",
        next="mend the quotes of this row",
    )
