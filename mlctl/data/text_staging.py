"""Many text files as one text on disk, of which any part can be read again."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mlctl.data.origin import Origin
from mlctl.data.text_files import BLOCK_BYTES, text_blocks, whole_characters


@dataclass(frozen=True)
class Span:
    """The bytes from `start` to before `stop` of a staged text."""

    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class StagedText:
    """A text in one file.

    `spans` are what the files of each split make, or what all make under None where the recipe names no split's
    files. Before byte `offsets[i]` of the text, which begins a character, `counts[i]` characters begin: int64 each,
    ascending, one for every block that was written, the end of the text last.
    """

    path: Path
    spans: dict[str | None, Span]
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]

    def blocks(self, span: Span, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
        """The span's text in blocks of whole characters; one that an end of the span cuts is left out."""
        with self.path.open("rb") as stream:
            stream.seek(span.start)
            left, rest = len(span), b""
            while left and (chunk := stream.read(min(block_bytes, left))):
                text = rest + (_from_a_character(chunk) if left == len(span) else chunk)
                left -= len(chunk)
                end = whole_characters(text)
                if end:
                    yield text[:end]
                rest = text[end:]

    def characters(self, span: Span) -> int:
        """How many characters begin in the span."""
        return self._before(span.stop) - self._before(span.start)

    def cut(self, span: Span, characters: int) -> int:
        """The offset at which the span has had so many characters."""
        wanted = self._before(span.start) + characters
        block = int(np.searchsorted(self.counts, wanted, side="right")) - 1
        begins = np.flatnonzero(_begins(self._block(block)))
        index = wanted - int(self.counts[block])
        return int(self.offsets[block] + begins[index]) if index < len(begins) else span.stop

    def _before(self, offset: int) -> int:
        """How many characters begin before the offset."""
        block = int(np.searchsorted(self.offsets, offset, side="right")) - 1
        begins = _begins(self._block(block)[: offset - int(self.offsets[block])])
        return int(self.counts[block]) + int(begins.sum())

    def _block(self, number: int) -> bytes:
        ends = [int(each) for each in self.offsets[number : number + 2]]
        with self.path.open("rb") as stream:
            stream.seek(ends[0])
            return stream.read(ends[-1] - ends[0])


def stage_text(origins: Sequence[Origin], path: Path, tell_position: Callable[[int], None]) -> StagedText:
    """Write the text of all files to `path` in their order, in which those of one split stand together.

    Where a file does not end its last line, a line feed is put between it and the next one of its split, so that no
    word reaches from one into the other; files that hold nothing leave no trace. `tell_position` hears how many bytes
    of the files are read. Raises what `text_blocks` raises.
    """
    read = 0
    with path.open("wb") as stream:
        writing = _Writing(stream)
        for origin in origins:
            is_new = True
            for text, position in text_blocks(origin):
                writing.add(text, origin.split, begins_file=is_new)
                is_new = False
                tell_position(read + position)
            read += origin.path.stat().st_size
    return StagedText(path, writing.spans, np.array(writing.offsets), np.array(writing.counts))


class _Writing:
    """A text as far as it is written."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ends_line = True
        self.spans: dict[str | None, Span] = {}
        self.offsets = [0]
        self.counts = [0]

    def add(self, text: bytes, split: str | None, *, begins_file: bool) -> None:
        """A block of whole characters of a file that the recipe names for `split`."""
        if begins_file and split in self.spans and not self._ends_line:
            self._write(b"\n")
        start = self.spans[split].start if split in self.spans else self.offsets[-1]
        self._write(text)
        self.spans[split] = Span(start, self.offsets[-1])

    def _write(self, text: bytes) -> None:
        self._stream.write(text)
        self.offsets.append(self.offsets[-1] + len(text))
        self.counts.append(self.counts[-1] + int(_begins(text).sum()))
        self._ends_line = text.endswith(b"\n")


def _begins(text: bytes) -> NDArray[np.bool_]:
    """Which bytes of UTF-8 begin a character, bool [bytes]."""
    return np.asarray(np.frombuffer(text, np.uint8) & 0xC0 != 0x80)


def _from_a_character(text: bytes) -> bytes:
    """The text without what is left at its beginning of a character that begins before it."""
    return next((text[skipped:] for skipped in range(min(4, len(text))) if text[skipped] & 0xC0 != 0x80), b"")
