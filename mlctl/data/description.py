"""What prepared data is, as data: `data.json`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

FILE_NAME = "data.json"


@dataclass(frozen=True)
class Field:
    """One array of a sample: its name, NumPy dtype and shape, the batch dimension left out.

    `columns` names the source's columns that make it, in order; empty for files of images and for the target.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scaling:
    """How raw values become numbers near 1: (raw / scale - mean) / deviation.

    `mean` and `deviation` are in units of raw / scale and hold one value for each index of the field's first
    axis (channels of an image, columns of a table; one for a scalar), or nothing for 0 and 1.
    """

    scale: float = 1.0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()


@dataclass(frozen=True)
class DataDescription:
    """Everything about prepared data but the numbers themselves."""

    task: str
    inputs: tuple[Field, ...]
    input_scaling: tuple[Scaling, ...]
    target: Field
    """Of shape () where rows have a class or a number to predict, (0,), no number at all, where they have none, and
    that of the input where every token's next one is to be predicted."""
    target_scaling: Scaling
    labels: tuple[str, ...]
    """Names of the classes in the order of their numbers; empty where there are none."""
    rows: dict[str, int]
    """Rows of every split: train, validation, test."""
    vocabulary: int = 0
    """Tokens that text is cut into, numbered from 0; 0 where the data are no text."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Length of every split's stream of tokens; empty where the data are no text."""

    def save(self, folder: Path) -> None:
        """Write `data.json` into `folder`."""
        (folder / FILE_NAME).write_text(json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read `data.json` from `folder`."""
        return cls.from_json(json.loads((folder / FILE_NAME).read_text(encoding="utf-8")))

    @classmethod
    def from_json(cls, raw: Any) -> Self:
        """The description that `dataclasses.asdict` wrote."""
        return cls(
            task=raw["task"],
            inputs=tuple(_field(each) for each in raw["inputs"]),
            input_scaling=tuple(_scaling(each) for each in raw["input_scaling"]),
            target=_field(raw["target"]),
            target_scaling=_scaling(raw["target_scaling"]),
            labels=tuple(raw["labels"]),
            rows=dict(raw["rows"]),
            vocabulary=raw.get("vocabulary", 0),
            tokens=dict(raw.get("tokens", {})),
        )


def _field(raw: Any) -> Field:
    return Field(raw["name"], raw["dtype"], tuple(raw["shape"]), tuple(raw["columns"]))


def _scaling(raw: Any) -> Scaling:
    return Scaling(raw["scale"], tuple(raw["mean"]), tuple(raw["deviation"]))
