"""A recipe's source as batches, whatever kind of files it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from mlctl.data.array_files import StoredArray, array_batches, array_inputs
from mlctl.data.batches import Batch
from mlctl.data.classes import ClassNumbers
from mlctl.data.delimited import table_batches, table_columns
from mlctl.data.images import MODES, image_batches
from mlctl.data.origins import ARRAY_SUFFIXES, Origin
from mlctl.data.reading import EveryArray, Numbers, Pixels, Reading, Standardize
from mlctl.errors import DataError
from mlctl.recipe.prepare import DataSettings, SplitByColumn


@dataclass(frozen=True)
class SourceInput:
    """One input as a source gives it.

    `columns` are those that make it, in order; none for images and arrays. `dtype` is None where the values decide.
    `axis` names each index of the first axis in the statistics, or all values together.
    """

    name: str
    shape: tuple[int, ...]
    columns: tuple[str, ...]
    axis: tuple[str, ...]
    dtype: str | None = None
    scale: float = 1.0
    standardize: Standardize = "no"


@dataclass(frozen=True)
class Source:
    """Batches to be read once, and what each of their inputs is."""

    batches: Iterator[Batch]
    inputs: tuple[SourceInput, ...]


def open_source(reading: Reading, settings: DataSettings, origins: Sequence[Origin], classes: ClassNumbers) -> Source:
    """The source that `origins` are; labels get their numbers from `classes`.

    Raises DataError where the files cannot give what `reading` asks for.
    """
    split_column = settings.split.column if isinstance(settings.split, SplitByColumn) else None
    _require_kind(reading, origins[0])
    if origins[0].holds_arrays:
        arrays = array_inputs(origins)
        return Source(array_batches(origins, arrays), tuple(_of_array(each) for each in arrays))
    if origins[0].is_image:
        pixels = _pixels(reading, split_column, origins[0])
        return Source(image_batches(origins, pixels, classes), (_of_columns(pixels, pixels.shape, ()),))
    columns = table_columns(reading, split_column, origins[0].path)
    named = tuple(each for each in reading.inputs if isinstance(each, Numbers))
    pairs = zip(named, columns.inputs, strict=True)
    return Source(
        batches=table_batches(origins, columns, classes),
        inputs=tuple(_of_columns(wanted, found.shape, found.names) for wanted, found in pairs),
    )


def _require_kind(reading: Reading, first: Origin) -> None:
    wants_arrays = reading.inputs == (EveryArray(),)
    if wants_arrays and not first.holds_arrays:
        what, next_step = "reads files of arrays", f"give files that end in {', '.join(ARRAY_SUFFIXES)}"
    elif first.holds_arrays and not wants_arrays:
        what, next_step = "reads no files of arrays", "give a table or images, or choose `task: embedding`"
    else:
        return
    raise DataError(f"the task {reading.task} {what}", where=first.path, next=next_step)


def _of_array(array: StoredArray) -> SourceInput:
    return SourceInput(array.name, array.shape, (), ("values",), array.dtype)


def _of_columns(wanted: Numbers | Pixels, shape: tuple[int, ...], columns: tuple[str, ...]) -> SourceInput:
    channels = tuple(f"channel {index}" for index in range(shape[0]))
    axis = columns if shape == (len(columns),) else channels
    return SourceInput(wanted.name, shape, columns, axis, None, wanted.scale, wanted.standardize)


def _pixels(reading: Reading, split_column: str | None, first: Origin) -> Pixels:
    """What is read from image files."""
    column = reading.target.column if reading.target else None
    named = split_column or column
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
