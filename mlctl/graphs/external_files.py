"""Which files an ONNX file is made of, told without loading it. Standard library only: the plan asks this."""

import mmap
from collections.abc import Iterator
from pathlib import Path

from mlctl.errors import DataError

LARGEST_FILE = 2**31 - 1
"""Bytes: protobuf's own limit for one message."""

_LOCATION = b"\x0a\x08location\x12"
"""How protobuf writes the first half of an external tensor's place (onnx.proto3, StringStringEntryProto): field 1 holds
the 8 characters of the key, field 2 follows with the length of the file's name, and the name."""

_LONGEST_NAME = 4096


def model_files(path: Path) -> tuple[Path, ...]:
    """The ONNX file, and those of its external data that lie in its folder, each once, sorted after it.

    Every place that the file's bytes spell is looked at, so that a model of any size is read once and never loaded. A
    name that leads out of the folder, or to no file, is left to those who load the model and refuse it. Raises
    DataError when `path` is no file that can be read.
    """
    if path.exists() and not path.is_file():
        # A pipe would be waited for without an end.
        raise DataError("this is no file", where=path, next="name an ONNX file")
    try:
        with path.open("rb") as stream:
            if not 0 < path.stat().st_size <= LARGEST_FILE:
                return (path,)
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
                names = sorted(set(_names(content)))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(
            f"the ONNX file cannot be read ({reason})",
            where=path,
            next="mend the path; a recipe's own is read beside the recipe",
        ) from error
    return (path, *_inside(path.parent, names))


def _names(content: mmap.mmap) -> Iterator[str]:
    place = content.find(_LOCATION)
    while place >= 0:
        length, start = _length(content, place + len(_LOCATION))
        if 0 < length <= _LONGEST_NAME:
            yield content[start : start + length].decode("utf-8", errors="replace")
        place = content.find(_LOCATION, place + len(_LOCATION))


def _length(content: mmap.mmap, start: int) -> tuple[int, int]:
    """A base 128 varint of protobuf, and where the bytes after it begin; names need two bytes of it at most."""
    first, second = (*content[start : start + 2], 0, 0)[:2]
    return (first, start + 1) if first < 0x80 else (first - 0x80 + second * 0x80, start + 2)


def _inside(folder: Path, names: list[str]) -> Iterator[Path]:
    root = folder.resolve()
    for name in names:
        if "\0" not in name and (folder / name).resolve().is_relative_to(root) and (folder / name).is_file():
            yield folder / name
