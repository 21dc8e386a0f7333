"""What an ONNX file says about the model inside it, in `metadata_props`; told without loading onnx."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from mlctl.digests import Json, canonical
from mlctl.errors import DataError

PREFIX = "mlctl."


@dataclass(frozen=True)
class GraphInput:
    """One input of the graph as the data had it that the model learnt from.

    `columns` names the source's columns that make it, in order; empty for files of images, arrays and tokens. `shape`
    is that of a row; of an input that the graph leaves open it says what was learnt from.
    """

    name: str
    columns: tuple[str, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class GraphMetadata:
    """The essentials of a model's origin.

    `labels` are the classes in the order of the output, empty where there are none. `preprocessing` is what the
    graph does to its raw inputs, and `network` what the graph was made from; both are plain JSON. `inputs` are in the
    graph's order, and empty in a file that was written before they were told.
    """

    task: str
    labels: tuple[str, ...]
    preprocessing: Json
    fingerprint: str
    network: Json
    inputs: tuple[GraphInput, ...] = ()

    def to_properties(self) -> dict[str, str]:
        """The keys and texts of `metadata_props`. Raises ValueError for numbers that are not finite."""
        return {
            f"{PREFIX}fingerprint": self.fingerprint,
            f"{PREFIX}inputs": canonical([asdict(each) for each in self.inputs]).decode(),
            f"{PREFIX}labels": canonical(self.labels).decode(),
            f"{PREFIX}network": canonical(self.network).decode(),
            f"{PREFIX}preprocessing": canonical(self.preprocessing).decode(),
            f"{PREFIX}task": self.task,
        }

    @classmethod
    def from_properties(cls, properties: Mapping[str, str], *, where: Path) -> Self:
        """What `to_properties` wrote; keys of other tools are left alone.

        `where` is the file that errors name. Raises DataError when a key is missing or its text is not what it was.
        """
        try:
            labels = json.loads(properties[f"{PREFIX}labels"])
            found = cls(
                task=properties[f"{PREFIX}task"],
                labels=tuple(labels),
                preprocessing=json.loads(properties[f"{PREFIX}preprocessing"]),
                fingerprint=properties[f"{PREFIX}fingerprint"],
                network=json.loads(properties[f"{PREFIX}network"]),
                inputs=tuple(map(_input, json.loads(properties.get(f"{PREFIX}inputs", "[]")))),
            )
        except KeyError as missing:
            raise _foreign(where, f"has no {missing.args[0]}") from None
        except (ValueError, TypeError, RecursionError) as damage:
            raise _foreign(where, f"is damaged: {damage}") from damage
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise _foreign(where, "holds labels that are not texts")
        return found


def _foreign(where: Path, what: str) -> DataError:
    return DataError(
        f"the graph's metadata {what}", where=where, next="take a graph that `mlctl export` or `mlctl quantize` made"
    )


def _input(raw: Any) -> GraphInput:
    """Raises TypeError for what `to_properties` did not write."""
    match raw:
        case {"name": str(name), "columns": [*columns], "shape": [*shape]} if _are(columns, str) and _are(shape, int):
            return GraphInput(name, tuple(columns), tuple(shape))
    raise TypeError("an input is told in a way that was not understood")


def _are(values: Sequence[Any], kind: type) -> bool:
    return all(type(each) is kind for each in values)
