"""IDX files of images and labels (Y. LeCun, "The MNIST database of handwritten digits"), as batches.

A header of 32-bit big-endian numbers: a magic number that says the type of the values and the number of dimensions,
then the dimensions. The values follow, a byte each.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from pathlib import Path
from struct import unpack

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import Batch, Source, SourceInput, given_splits
from mlctl.data.classes import ClassNumbers
from mlctl.data.compressed import INFLATED_FREELY, MOST_INFLATED, Stream, codec_of, opened
from mlctl.data.origin import Origin
from mlctl.data.reading import Pixels
from mlctl.errors import DataError

BATCH_BYTES = 4 << 20
IMAGES, LABELS = 0x0803, 0x0801
"""Magic numbers of unsigned bytes in three dimensions and in one."""

_NAME = re.compile(r"(?P<stem>.*)(?P<kind>images|labels)[.-]idx[13]-ubyte(\.gz|\.zst)?", re.IGNORECASE | re.DOTALL)
_AGAIN = "fetch the file again; what is here is damaged"


@dataclass(frozen=True)
class _Pair:
    images: Origin
    labels: Origin


def open_idx(
    origins: Sequence[Origin], pixels: Pixels, classes: ClassNumbers, batch_bytes: int = BATCH_BYTES
) -> Source:
    """The images of every file in turn, uint8 [rows, 1, height, width], and their labels' digits as classes.

    A file of labels belongs to the images of the same name in the same folder. Raises DataError where one of two is
    missing, where images are not of the recipe's shape, and for a file whose header and length do not agree.
    """
    pairs = _pairs(origins)
    for pair in pairs:
        _check(pair, pixels.shape)
    return Source(_batches(pairs, pixels.shape, classes, batch_bytes), (SourceInput.of(pixels, pixels.shape),))


def _pairs(origins: Sequence[Origin]) -> list[_Pair]:
    found: dict[tuple[str | None, Path, str], dict[str, Origin]] = {}
    for origin in origins:
        name = _NAME.fullmatch(origin.path.name)
        assert name is not None, origin
        kinds = found.setdefault((origin.split, Path(origin.name).parent, name["stem"].lower()), {})
        other = kinds.setdefault(name["kind"].lower(), origin)
        if other is not origin:
            raise DataError(f"this file and {other.name} are for the same", where=origin.name, next="name one of them")
    for kinds in found.values():
        for wanted, given in (("labels", "images"), ("images", "labels")):
            if wanted not in kinds:
                raise DataError(
                    f"the file of {wanted} for these {given} is not among the files that the recipe names",
                    where=kinds[given].name,
                    next="name both, by a list or a glob such as `train-*`",
                )
    return [_Pair(kinds["images"], kinds["labels"]) for kinds in found.values()]


def _check(pair: _Pair, shape: tuple[int, int, int]) -> None:
    count, *size = _dimensions(pair.images, IMAGES)
    (labels,) = _dimensions(pair.labels, LABELS)
    if (1, *size) != shape:
        raise DataError(
            f"the images are of the shape {[1, *size]}, the recipe says {list(shape)}",
            where=pair.images.name,
            next=f"write `shape: {[1, *size]}`; these files are read as they are",
        )
    if count != labels:
        what = f"{count:,} images have {labels:,} labels in {pair.labels.name}"
        raise DataError(what, where=pair.images.name, next="give files that belong together")


def _dimensions(origin: Origin, magic: int) -> tuple[int, ...]:
    """What the header says, as far as the file's length allows it."""
    with opened(origin.path, origin.name) as stream:
        dimensions = _header(stream, origin, magic)
    declared, actual = 4 + 4 * len(dimensions) + prod(dimensions), origin.path.stat().st_size
    if codec_of(origin.path.name) is None:
        is_possible = declared == actual
    else:
        is_possible = declared <= MOST_INFLATED * actual + INFLATED_FREELY
    if not is_possible or not prod(dimensions):
        what = f"the header declares {declared:,} bytes ({' x '.join(map(str, dimensions))}), the file has {actual:,}"
        raise DataError(what, where=origin.name, next=_AGAIN)
    return dimensions


def _header(stream: Stream, origin: Origin, magic: int) -> tuple[int, ...]:
    count = magic & 0xFF
    header = stream.read(4 + 4 * count)
    if len(header) < 4 + 4 * count or unpack(">I", header[:4]) != (magic,):
        what = f"this is no IDX file of unsigned bytes in {count} dimensions"
        raise DataError(what, where=origin.name, next="give the files as their authors made them")
    return unpack(f">{count}I", header[4:])


def _batches(
    pairs: Sequence[_Pair], shape: tuple[int, int, int], classes: ClassNumbers, batch_bytes: int
) -> Iterator[Batch]:
    finished, first_row = 0, 0
    for pair in pairs:
        with ExitStack() as stack:
            images, labels = (stack.enter_context(opened(each.path, each.name)) for each in (pair.images, pair.labels))
            count = _header(images, pair.images, IMAGES)[0]
            _header(labels, pair.labels, LABELS)
            for start in range(0, count, max(1, batch_bytes // prod(shape))):
                rows = min(max(1, batch_bytes // prod(shape)), count - start)
                yield Batch(
                    inputs=(_read(images, pair.images, (rows, *shape)),),
                    targets=_classes(_read(labels, pair.labels, (rows,)), classes),
                    splits=given_splits(pair.images, rows),
                    rows=np.arange(first_row + start, first_row + start + rows),
                    bad=(),
                    position=finished + images.position + labels.position,
                )
            for stream, origin in ((images, pair.images), (labels, pair.labels)):
                # Only at its end is a compressed stream compared with its checksum.
                if stream.read(1):
                    raise DataError("the file is longer than its header says", where=origin.name, next=_AGAIN)
        first_row += count
        finished += sum(each.path.stat().st_size for each in (pair.images, pair.labels))


def _read(stream: Stream, origin: Origin, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    raw = stream.read(prod(shape))
    if len(raw) < prod(shape):
        raise DataError("the file is shorter than its header says", where=origin.name, next=_AGAIN)
    return np.frombuffer(raw, dtype=np.uint8).reshape(shape)


def _classes(labels: NDArray[np.uint8], classes: ClassNumbers) -> NDArray[np.int64]:
    values, codes = np.unique(labels, return_inverse=True)
    return classes.of(map(str, values.tolist()))[codes]
