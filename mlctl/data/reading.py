"""What a task wants read from a source, in its own words."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

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
    """Image files that make one input: uint8 of `shape` (channels, height, width), one or three channels."""

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
