"""Delimited text in blocks: where its rows end, quotes considered."""

import re
from collections.abc import Iterator

from mlctl.data.compressed import without_codec
from mlctl.data.origin import Origin
from mlctl.data.row_blocks import BLOCK_BYTES, Block, row_blocks

_NOT_BLANK = re.compile(rb"[^\r\n][^\n]*")


def delimiter_of(origin: Origin) -> str:
    """A tab for .tsv, a comma for everything else; a final .gz or .zst does not count."""
    return "\t" if without_codec(origin.path.name).endswith(".tsv") else ","


def blocks(origin: Origin, block_bytes: int = BLOCK_BYTES) -> Iterator[Block]:
    """The file's rows, header included. Raises as `row_blocks`, also for a quote that is never closed."""
    delimiter = delimiter_of(origin)
    return row_blocks(
        origin,
        end_of_rows=lambda text: _end_of_rows(text, delimiter),
        is_whole=lambda rest: all(match[2] for match in _long_values(rest, delimiter)),
        block_bytes=block_bytes,
    )


def count_rows(block: Block, origin: Origin) -> int:
    """How many rows a block of the file holds, blank lines not counted."""
    lines = len(_NOT_BLANK.findall(block.text))
    long_values = _long_values(block.text, delimiter_of(origin))
    return lines - sum(len(_NOT_BLANK.findall(match[1])) - 1 for match in long_values)


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
