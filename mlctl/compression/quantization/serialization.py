"""A model as the bytes that ONNX Runtime loads."""

import onnx
from google.protobuf.message import EncodeError

from mlctl.errors import StepFailed


def serialized(model: onnx.ModelProto) -> bytes:
    """The whole model, its data inside. Raises StepFailed above 2 GiB, where protobuf ends."""
    try:
        return bytes(model.SerializeToString())
    except (EncodeError, ValueError) as refusal:
        raise StepFailed(
            "this graph holds more than 2 GiB of data, too much to try its nodes one by one",
            next="take `method: weight-only` rounded to nearest, without `max_drop` and without `prefer: speed`",
        ) from refusal
