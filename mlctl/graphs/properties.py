"""The `metadata_props` of a model in memory."""

from collections.abc import Mapping

import onnx


def read_properties(model: onnx.ModelProto) -> dict[str, str]:
    """The model's `metadata_props`."""
    return {entry.key: entry.value for entry in model.metadata_props}


def write_properties(model: onnx.ModelProto, properties: Mapping[str, str]) -> None:
    """Add `properties` to the model's `metadata_props`, over those of the same key; all sorted by key."""
    together = read_properties(model) | dict(properties)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, dict(sorted(together.items())))
