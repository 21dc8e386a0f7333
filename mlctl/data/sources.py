"""A recipe's source as batches, whatever kind of files it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlctl.data.batches import Batch
from mlctl.data.classes import ClassNumbers
from mlctl.data.delimited import table_batches, table_columns
from mlctl.data.images import MODES, image_batches
from mlctl.data.origins import Origin
from mlctl.data.reading import Category, Pixels, Reading
from mlctl.errors import DataError
from mlctl.recipe.prepare import DataSettings, SplitByColumn


@dataclass(frozen=True)
class Source:
    """Batches to be read once; and for every input its shape and its columns (none for images)."""

    batches: Iterator[Batch]
    shapes: tuple[tuple[int, ...], ...]
    columns: tuple[tuple[str, ...], ...]


def open_source(reading: Reading, settings: DataSettings, origins: Sequence[Origin], classes: ClassNumbers) -> Source:
    """The source that `origins` are; labels get their numbers from `classes`.

    Raises DataError where the files cannot give what `reading` asks for.
    """
    split_column = settings.split.column if isinstance(settings.split, SplitByColumn) else None
    if origins[0].is_image:
        pixels = _pixels(reading, split_column, origins[0])
        return Source(image_batches(origins, pixels, classes), (pixels.shape,), ((),))
    columns = table_columns(reading, split_column, origins[0].path)
    return Source(
        batches=table_batches(origins, columns, classes),
        shapes=tuple(each.shape for each in columns.inputs),
        columns=tuple(each.names for each in columns.inputs),
    )


def _pixels(reading: Reading, split_column: str | None, first: Origin) -> Pixels:
    """What is read from image files."""
    named = split_column or (None if reading.target == Category(None) else reading.target.column)
    match reading.inputs:
        case (Pixels() as pixels,) if named is None:
            if pixels.shape[0] not in MODES:
                what = f"image files are read with 1 or 3 channels, not {pixels.shape[0]}"
                raise DataError(what, where=first.path, next="mend the first number of the shape")
            return pixels
        case _:
            raise DataError(
                f"files of images have no column {named!r}" if named else "files of images have no columns",
                where=first.path,
                next="leave the columns out: a file's folder names its class",
            )
