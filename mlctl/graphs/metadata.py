"""What an ONNX file says about the model inside it, in `metadata_props`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import onnx

from mlctl.digests import Json, canonical
from mlctl.errors import DataError

PREFIX = "mlctl."


@dataclass(frozen=True)
class GraphMetadata:
    """The essentials of a model's origin.

    `labels` are the classes in the order of the output, empty where there are none. `preprocessing` is what the
    graph does to its raw inputs, and `network` what the graph was made from; both are plain JSON.
    """

    task: str
    labels: tuple[str, ...]
    preprocessing: Json
    fingerprint: str
    network: Json

    def to_properties(self) -> dict[str, str]:
        """The keys and texts of `metadata_props`. Raises ValueError for numbers that are not finite."""
        return {
            f"{PREFIX}fingerprint": self.fingerprint,
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
            )
        except KeyError as missing:
            raise _foreign(where, f"has no {missing.args[0]}") from None
        except (json.JSONDecodeError, TypeError) as damage:
            raise _foreign(where, f"is damaged: {damage}") from damage
        if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
            raise _foreign(where, "holds labels that are not texts")
        return found


def _foreign(where: Path, what: str) -> DataError:
    return DataError(
        f"the graph's metadata {what}", where=where, next="take a graph that `mlctl export` or `mlctl quantize` made"
    )


def read_properties(model: onnx.ModelProto) -> dict[str, str]:
    """The model's `metadata_props`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def write_properties(model: onnx.ModelProto, properties: Mapping[str, str]) -> None:
    """Add `properties` to the model's `metadata_props`, over those of the same key; all sorted by key."""
    together = read_properties(model) | dict(properties)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(together.items())))
