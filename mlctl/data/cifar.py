"""CIFAR-10 and CIFAR-100 in their binary form (A. Krizhevsky, https://www.cs.toronto.edu/~kriz/cifar.html), as batches.

A record is a label (CIFAR-10), or a coarse and a fine label (CIFAR-100), each a byte, and 3,072 bytes of red, green and
blue, row by row. There is no header.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlctl.data.batches import BadRow, Batch, Source, SourceInput, given_splits
from mlctl.data.classes import ClassNumbers
from mlctl.data.compressed import opened
from mlctl.data.origin import Origin
from mlctl.data.reading import Pixels
from mlctl.errors import DataError

BATCH_BYTES = 4 << 20
SHAPE = (3, 32, 32)
MOST_NAMES_BYTES = 1 << 20
_IMAGE_BYTES = 3 * 32 * 32


@dataclass(frozen=True)
class _Labels:
    """Which of the `count` bytes before an image is its label, and what the labels are called."""

    data_set: str
    place: int
    count: int
    names: tuple[str, ...]


def open_cifar(
    origins: Sequence[Origin],
    pixels: Pixels,
    label: str | None,
    classes: ClassNumbers,
    batch_bytes: int = BATCH_BYTES,
) -> Source:
    """The images of every file in turn, uint8 [rows, 3, 32, 32], and their labels.

    Labels are called as the file of names among `origins` says, else by their number. `label` is `coarse` or `fine`,
    which is what None stands for, and None alone for CIFAR-10.

    Raises DataError for another shape than the recipe's, a file of no whole records, files of both data sets, and a
    label that the data set does not have. A record whose label is beyond the data set's is a bad row.
    """
    records = [each for each in origins if each.path.suffix.lower() == ".bin"]
    if not records:
        raise DataError("these files name labels and hold no images", where=origins[0].name, next="name the .bin files")
    if pixels.shape != SHAPE:
        what = f"the images are of the shape {list(SHAPE)}, the recipe says {list(pixels.shape)}"
        raise DataError(
            what, where=records[0].name, next=f"write `shape: {list(SHAPE)}`; these files are read as they are"
        )
    labels = _labels(origins, records, label)
    for origin in records:
        size = origin.path.stat().st_size
        if not size or size % (labels.count + _IMAGE_BYTES):
            what = f"{size:,} bytes are no whole number of {labels.data_set}'s records"
            raise DataError(what, where=origin.name, next="fetch the file again; what is here is damaged")
    return Source(_batches(records, labels, classes, batch_bytes), (SourceInput.of(pixels, SHAPE),))


def _labels(origins: Sequence[Origin], records: Sequence[Origin], label: str | None) -> _Labels:
    has_two = [not each.path.name.startswith(("data_batch_", "test_batch")) for each in records]
    if any(has_two) and not all(has_two):
        other = records[has_two.index(not has_two[0])]
        what = f"files of CIFAR-10 and of CIFAR-100 cannot be one source; {records[0].name} is of the other"
        raise DataError(what, where=other.name, next="name files of one data set")
    if not has_two[0]:
        if label is not None:
            what = f"CIFAR-10 has one label for each image, none that is called {label!r}"
            raise DataError(what, where=records[0].name, next="leave `label` out")
        return _Labels("CIFAR-10", 0, 1, _names(origins, "batches.meta.txt", 10))
    kind = label or "fine"
    names = _names(origins, f"{kind}_label_names.txt", 100 if kind == "fine" else 20)
    return _Labels("CIFAR-100", ("coarse", "fine").index(kind), 2, names)


def _names(origins: Sequence[Origin], file_name: str, count: int) -> tuple[str, ...]:
    """What the labels are called, in the order of their numbers."""
    origin = next((each for each in origins if each.path.name.lower() == file_name), None)
    if origin is None:
        return tuple(map(str, range(count)))
    with opened(origin.path, origin.name) as stream:
        text = stream.read(MOST_NAMES_BYTES)
    try:
        names = tuple(line.strip() for line in text.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(
            "the names of labels are not UTF-8", where=origin.name, next="save the file as UTF-8"
        ) from error
    if len(set(names)) != count or len(names) != count:
        what = f"the file names {len(set(names))} different labels on {len(names)} lines; there are {count}"
        raise DataError(what, where=origin.name, next="leave the file out, or fetch it again")
    return names


def _batches(origins: Sequence[Origin], labels: _Labels, classes: ClassNumbers, batch_bytes: int) -> Iterator[Batch]:
    record = labels.count + _IMAGE_BYTES
    finished, first_row = 0, 0
    for origin in origins:
        before = first_row
        with opened(origin.path, origin.name) as stream:
            while raw := stream.read(max(1, batch_bytes // record) * record):
                records = np.frombuffer(raw[: len(raw) // record * record], dtype=np.uint8).reshape(-1, record)
                yield _batch(
                    records, labels, classes, origin, (first_row - before, first_row, finished + stream.position)
                )
                first_row += len(records)
        finished += origin.path.stat().st_size


def _batch(
    records: NDArray[np.uint8], labels: _Labels, classes: ClassNumbers, origin: Origin, places: tuple[int, int, int]
) -> Batch:
    """The usable records; `places` are the first one's in the file and in the source, and the position behind them."""
    in_file, first_row, position = places
    numbers = records[:, labels.place].astype(np.int64)
    known = numbers < len(labels.names)
    limit = f"{labels.data_set}'s go from 0 to {len(labels.names) - 1}"
    bad = tuple(
        BadRow(origin.name, None, f"record {in_file + row + 1} has the label {numbers[row]}; {limit}")
        for row in np.flatnonzero(~known).tolist()
    )
    values, codes = np.unique(numbers[known], return_inverse=True)
    return Batch(
        inputs=(records[known, labels.count :].reshape(-1, *SHAPE),),
        targets=classes.of(labels.names[value] for value in values.tolist())[codes],
        splits=given_splits(origin, int(known.sum())),
        rows=first_row + np.flatnonzero(known),
        bad=bad,
        position=position,
    )
