"""`config.pbtxt`: what Triton has to be told to serve the live version as it lies there.

Triton's `ModelConfig` in protobuf's text format (github.com/triton-inference-server/common, model_config.proto). It has
one configuration for all versions of a model, and theirs may take other inputs: so it is written for the live version,
and names that one alone as the version to load. What it says is true at every instant, however the labels move.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from mlctl.serving.repository.record import CLASSES, PortRecord, VersionRecord
from mlctl.serving.repository.writing import write_durably

FILE_NAME: Final = "config.pbtxt"
_OURS: Final = "# Written by mlctl whenever the live version changes; without this line it is left alone."
_TYPES: Final = {
    "bool": "TYPE_BOOL", "object": "TYPE_STRING", "bfloat16": "TYPE_BF16",
    "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32", "uint64": "TYPE_UINT64",
    "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32", "int64": "TYPE_INT64",
    "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64",
}  # fmt: skip
"""By NumPy's name, in that of `DataType`."""


def write_config(folder: Path, name: str, version: int, record: VersionRecord | None) -> bool:
    """Let `config.pbtxt` speak of that version, unless somebody else has written the file; whether it does now.

    Raises OSError.
    """
    path = folder / FILE_NAME
    if path.exists() and not path.read_bytes().startswith(_OURS.encode()):
        return False
    text = config_text(name, version, record)
    if not path.exists() or path.read_bytes() != text.encode():
        write_durably(path, text)
    return True


def config_text(name: str, version: int, record: VersionRecord | None) -> str:
    """The file for one version. Of one without a record, or of a type that Triton has no word for, Triton looks at the
    graph itself."""
    lines = [
        _OURS,
        f"name: {_quoted(name)}",
        'platform: "onnxruntime_onnx"',
        f"version_policy {{ specific {{ versions: [ {version} ] }} }}",
    ]
    if record and all(port.dtype in _TYPES for port in (*record.inputs, *record.outputs)):
        lines.append(f"max_batch_size: {record.max_batch}")
        lines += [_port("input", port, record.max_batch > 0) for port in record.inputs]
        lines += _outputs(version, record)
    return "\n".join(lines) + "\n"


def _outputs(version: int, record: VersionRecord) -> Iterator[str]:
    for place, port in enumerate(record.outputs):
        has_labels = place == 0 and record.has(CLASSES)
        classes = f"label_filename: {_quoted(f'{version}/{CLASSES}')} " if has_labels else ""
        yield _port("output", port, record.max_batch > 0, classes)


def _port(kind: str, port: PortRecord, has_batch: bool, more: str = "") -> str:
    sizes = [-1 if size is None else size for size in port.shape[1 if has_batch else 0 :]]
    # Triton takes no port without dimensions: one number comes as [1] and is handed on as [].
    dims = f"dims: [ {', '.join(map(str, sizes))} ]" if sizes else "dims: [ 1 ] reshape { shape: [ ] }"
    return f"{kind} {{ name: {_quoted(port.name)} data_type: {_TYPES[port.dtype]} {dims} {more}}}"


def _quoted(text: str) -> str:
    """The text as protobuf spells it, every byte that is no plain letter in octal."""
    plain = {ord("\n"): r"\n", ord('"'): r"\"", ord("\\"): r"\\"}
    return '"' + "".join(
        plain.get(byte, chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}") for byte in text.encode()
    ) + '"'  # fmt: skip
