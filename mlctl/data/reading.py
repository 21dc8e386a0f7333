"""What a task wants read from a source, in its own words."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlctl.data.origin import Origin
from mlctl.errors import DataError
from mlctl.recipe.prepare import RowData, SplitByColumn

Standardize: TypeAlias = Literal["no", "first-axis"]
"""`first-axis`: the train split's mean and deviation, one for each index of a sample's first axis."""


@dataclass(frozen=True)
class Numbers:
    """Numeric columns of a table that make one input.

    `columns` are names, or globs over the header, which keep the header's order and never match the target or the
    column that names the split. `shape` None stands for (number of columns,); otherwise columns fill it row-major.
    """

    name: str
    columns: tuple[str, ...]
    shape: tuple[int, ...] | None = None
    scale: float = 1.0
    standardize: Standardize = "no"


@dataclass(frozen=True)
class Pixels:
    """Files that hold images and make one input: uint8 of `shape` (channels, height, width), one or three channels."""

    name: str
    shape: tuple[int, int, int]
    scale: float = 255.0
    standardize: Standardize = "no"


@dataclass(frozen=True)
class EveryArray:
    """Every array of the source's `.npz` files, each an input of its own name, values as they are."""


@dataclass(frozen=True)
class Category:
    """A class label: the text of a column, or the name of the class folder where `column` is None."""

    column: str | None


@dataclass(frozen=True)
class Number:
    """A numeric column to predict, parsed as float64 and stored as float32."""

    column: str
    standardize: bool = False


@dataclass(frozen=True)
class Reading:
    """What becomes of a source: the task's name, the inputs in the model's order, and the target, if it has one."""

    task: str
    inputs: tuple[Numbers | Pixels | EveryArray, ...]
    target: Category | Number | None


def wanted_pixels(
    reading: Reading, settings: RowData, first: Origin, files: str, columns: tuple[str, ...] = ()
) -> Pixels:
    """What `reading` wants of files that hold images; `columns` are what a label may be called in them.

    Raises DataError, with the name of the `first` file, where columns or arrays are wanted.
    """
    split = settings.split.column if isinstance(settings.split, SplitByColumn) else None
    label = reading.target.column if reading.target else None
    named = split if split is not None else label if label not in columns else None
    match reading.inputs:
        case (Pixels() as pixels,) if named is None:
            return pixels
        case (EveryArray(),):
            what, next_step = f"the task {reading.task} reads files of arrays", "give files that end in .npz"
        case _:
            what = f"{files} have no column {named!r}" if named else f"{files} have no columns"
            next_step = "leave the columns out: the files themselves say every image's class"
    raise DataError(what, where=first.name, next=next_step)
