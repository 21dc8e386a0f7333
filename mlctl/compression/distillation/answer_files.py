"""A teacher's answers as files: described by `answers.json`, read mapped from disk, written row by row."""

# N rows of the split

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Self, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from mlctl.compression.distillation.answer_forms import AnswerForm, ArrayForm
from mlctl.digests import canonical
from mlctl.errors import ArtifactDamaged

DESCRIPTION_FILE = "answers.json"
PROGRESS_FILE = "progress.json"

Key: TypeAlias = Mapping[str, str | int]
"""What answers are of; those of another key are not gone on with."""


@dataclass(frozen=True)
class AnswerDescription:
    """Answers to all `rows` of the train split, in its order, and who gave them."""

    rows: int
    form: AnswerForm
    teacher: str

    def save(self, folder: Path) -> None:
        """Write `answers.json` into `folder`; for people it also names the arrays."""
        arrays = {each.name: {"dtype": each.dtype, "shape": [self.rows, *each.shape]} for each in self.form.arrays}
        text = json.dumps({**asdict(self), "arrays": arrays}, indent=2, ensure_ascii=False)
        (folder / DESCRIPTION_FILE).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `answers.json`. Raises ArtifactDamaged where it is not what `save` wrote."""
        path = folder / DESCRIPTION_FILE
        try:
            return TypeAdapter(cls).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise ArtifactDamaged("the description of the teacher's answers cannot be read", where=path) from error


@dataclass(frozen=True)
class Answers:
    """What a teacher answered: the arrays of its form, [N, ...] each, mapped from disk."""

    description: AnswerDescription
    arrays: tuple[NDArray[Any], ...]

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Map every array. Raises ArtifactDamaged where one is not what the description says."""
        description = AnswerDescription.load(folder)
        mapped = tuple(_mapped(folder, each, description.rows) for each in description.form.arrays)
        return cls(description, mapped)


class AnswerWriter:
    """Appends rows to the files of a form, and knows how many of them are there for good.

    A file has its whole header from the beginning; `rows` counts those that `flush` has seen to lie on disk. What a
    kill left behind them is written again.
    """

    def __init__(self, folder: Path, form: AnswerForm, rows: int, done: int, streams: tuple[BinaryIO, ...]) -> None:
        self.rows = done
        self._folder = folder
        self._arrays = form.arrays
        self._total = rows
        self._streams = streams
        for stream, array in zip(streams, self._arrays, strict=True):
            stream.seek(0)
            header = {"descr": np.dtype(array.dtype).str, "fortran_order": False, "shape": (rows, *array.shape)}
            np.lib.format.write_array_header_1_0(stream, header)
            stream.truncate(stream.tell() + done * _row_bytes(array))
            stream.seek(0, os.SEEK_END)

    def append(self, arrays: tuple[NDArray[Any], ...]) -> None:
        """The next rows, [B, ...] each, in the dtypes of the form or others that they fit into."""
        for stream, array, values in zip(self._streams, self._arrays, arrays, strict=True):
            stream.write(np.ascontiguousarray(values, dtype=array.dtype).data)
        self.rows += len(arrays[0])

    def flush(self, key: Key) -> None:
        """See to it that all rows lie on disk, and only then note how many there are, and of what."""
        for stream in self._streams:
            stream.flush()
            os.fsync(stream.fileno())
        aside = self._folder / f"{PROGRESS_FILE}.writing"
        with aside.open("wb") as stream:
            stream.write(canonical({**key, "rows": self.rows}))
            stream.flush()
            os.fsync(stream.fileno())
        aside.replace(self._folder / PROGRESS_FILE)


@contextmanager
def answer_writer(folder: Path, form: AnswerForm, rows: int, key: Key) -> Iterator[AnswerWriter]:
    """A writer that goes on in `folder` where one with the same `key` stopped, and notes its place when it is left.

    The place is noted however the block ends, short of a kill; for that `flush` is called now and then.
    """
    done = _rows_done(folder, form, key)
    with ExitStack() as stack:
        mode = "r+b" if done else "w+b"
        paths = [folder / f"{each.name}.npy" for each in form.arrays]
        streams = tuple(cast("BinaryIO", stack.enter_context(path.open(mode))) for path in paths)
        writer = AnswerWriter(folder, form, rows, done, streams)
        try:
            yield writer
        finally:
            writer.flush(key)


def _rows_done(folder: Path, form: AnswerForm, key: Key) -> int:
    """Rows that lie there for good; 0 where there are none, or those of another teacher."""
    try:
        noted = json.loads((folder / PROGRESS_FILE).read_bytes())
        done = noted.pop("rows")
        sizes = [(folder / f"{each.name}.npy").stat().st_size for each in form.arrays]
    except (OSError, ValueError, AttributeError, KeyError):
        return 0
    if noted != dict(key) or not isinstance(done, int):
        return 0
    is_whole = all(size > done * _row_bytes(each) for size, each in zip(sizes, form.arrays, strict=True))
    return done if is_whole else 0


def _row_bytes(array: ArrayForm) -> int:
    return prod(array.shape) * np.dtype(array.dtype).itemsize


def _mapped(folder: Path, array: ArrayForm, rows: int) -> NDArray[Any]:
    path = folder / f"{array.name}.npy"
    with suppress(OSError, ValueError):
        found = np.lib.format.open_memmap(path, mode="r")
        if (found.dtype.name, found.shape) == (array.dtype, (rows, *array.shape)) and found.flags.c_contiguous:
            return found
    raise ArtifactDamaged(f"the array is not {array.dtype} {[rows, *array.shape]}", where=path)
