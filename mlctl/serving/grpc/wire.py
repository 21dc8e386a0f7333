"""Bytes of messages whose numbers never become Python's, or a message's, one by one (protobuf's encoding).

Fields of a message may come in any order and in several pieces, so what protobuf writes of a message and the tensors'
bytes behind it are one message ("Length-Delimited Records").
"""

from typing import Final

import numpy as np

from mlctl.serving.grpc.open_inference_messages import InferTensorContents, ModelInferResponse, ModelStreamInferResponse
from mlctl.serving.protocols.open_inference_tensors import Array, to_raw

_RAW: Final = bytes([ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | 2])
_ANSWER: Final = bytes([ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER << 3 | 2])


def written(response: ModelInferResponse, outputs: list[Array]) -> bytes:
    """The response with `raw_output_contents` of these outputs."""
    parts: list[bytes | memoryview] = [response.SerializeToString()]
    for array in outputs:
        raw = to_raw(array) if array.dtype == object else np.ascontiguousarray(array).data
        parts += (_RAW, varint(len(raw) if isinstance(raw, bytes) else raw.nbytes), raw)
    return b"".join(parts)


def streamed(response: bytes) -> bytes:
    """The message of a stream that holds this response."""
    return b"".join((_ANSWER, varint(len(response)), response))


def packed(contents: InferTensorContents) -> memoryview:
    """The values of the one field that is set, as protobuf writes them without a break between ("Packed Repeated
    Fields"): numbers of floating point as their little-endian bytes, booleans as a byte each.
    """
    # Fields that nobody knows could else stand before it.
    contents.DiscardUnknownFields()
    written = memoryview(contents.SerializeToString())
    start, length, shift = 1, 0, 0
    while True:
        byte = written[start]
        length |= (byte & 0x7F) << shift
        start, shift = start + 1, shift + 7
        if byte < 0x80:
            return written[start : start + length]


def varint(number: int) -> bytes:
    """A number of 0 or more, seven bits in each byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)
