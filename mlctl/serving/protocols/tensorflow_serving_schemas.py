"""What TensorFlow Serving's requests and answers look like, as JSON Schema."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

Schema: TypeAlias = Mapping[str, Any]

_TEXT: Final = {"type": "string"}
_SIGNATURE: Final = {"type": "string", "description": "`serving_default`, which is the only one."}
_FEATURES: Final = {
    "type": "object",
    "description": 'Numbers or strings, or flat lists of them, by column or input; bytes as {"b64": "..."}.',
}


def _object(properties: Schema, required: tuple[str, ...] | None = None) -> Schema:
    return {"type": "object", "required": list(properties if required is None else required), "properties": properties}


PREDICT: Final[Schema] = {
    "type": "object",
    "properties": {
        "signature_name": _SIGNATURE,
        "instances": {
            "type": "array",
            "minItems": 1,
            "description": 'Rows: nested lists, or an object of inputs by name; bytes as {"b64": "..."}.',
        },
        "inputs": {
            "type": ["array", "object"],
            "description": "Columns: nested lists for the one input, or an object of them by name.",
        },
    },
    "oneOf": [{"required": ["instances"]}, {"required": ["inputs"]}],
}
PREDICTED: Final[Schema] = {
    "type": "object",
    "properties": {
        "predictions": {"type": "array", "description": "For `instances`: one for every row."},
        "outputs": {"type": ["array", "object"], "description": "For `inputs`: the output, or all of them by name."},
    },
    "oneOf": [{"required": ["predictions"]}, {"required": ["outputs"]}],
}
EXAMPLES: Final[Schema] = _object(
    {
        "signature_name": _SIGNATURE,
        "context": {**_FEATURES, "description": "Features of all examples."},
        "examples": {"type": "array", "minItems": 1, "items": _FEATURES},
    },
    ("examples",),
)
_PAIR: Final = {
    "type": "array",
    "prefixItems": [_TEXT, {"type": ["number", "null"]}],
    "minItems": 2,
    "maxItems": 2,
    "description": "A label and its score.",
}
CLASSIFIED: Final[Schema] = _object({"results": {"type": "array", "items": {"type": "array", "items": _PAIR}}})
REGRESSED: Final[Schema] = _object({"results": {"type": "array", "items": {"type": ["number", "null"]}}})
STATUS: Final[Schema] = _object(
    {
        "model_version_status": {
            "type": "array",
            "items": _object(
                {
                    "version": _TEXT,
                    "state": {"enum": ["LOADING", "AVAILABLE", "END"]},
                    "status": _object({"error_code": {"enum": ["OK", "UNAVAILABLE"]}, "error_message": _TEXT}),
                }
            ),
        }
    }
)
METADATA: Final[Schema] = _object(
    {
        "model_spec": _object({"name": _TEXT, "signature_name": _TEXT, "version": _TEXT}),
        "metadata": _object({"signature_def": _object({"signature_def": {"type": "object"}})}),
    }
)
