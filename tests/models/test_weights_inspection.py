"""Safetensors files, read from their headers."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mlctl.errors import DataError
from mlctl.models.weights_inspection import StoredTensor, inspect_weights


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    tensors = {
        "body.weight": torch.ones(3, 4),
        "half": torch.ones(5, dtype=torch.bfloat16),
        "one": torch.zeros((), dtype=torch.float64),
        "steps": torch.zeros(2, dtype=torch.int64),
        "flag": torch.zeros(3, dtype=torch.bool),
        "empty": torch.zeros(0, 7),
    }
    path = tmp_path / "model.safetensors"
    save_file(tensors, path, {"made": "here"})
    return path


def written(path: Path, header: object, rest: bytes = b"") -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + rest)
    return path


def test_everything_is_said_of_what_safetensors_wrote(weights: Path) -> None:
    found = inspect_weights(weights)
    assert sorted(found.tensors, key=lambda each: each.name) == [
        StoredTensor("body.weight", "float32", (3, 4), 48),
        StoredTensor("empty", "float32", (0, 7), 0),
        StoredTensor("flag", "bool", (3,), 3),
        StoredTensor("half", "bfloat16", (5,), 10),
        StoredTensor("one", "float64", (), 8),
        StoredTensor("steps", "int64", (2,), 16),
    ]
    assert found.parameters == 12 + 5 + 1
    assert found.metadata == {"made": "here"}
    assert found.bytes == weights.stat().st_size


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "rest", "message"),
    [
        (b"nonsense", b"", "not a safetensors file"),
        (b"[" * 100_000, b"", "not a safetensors file"),
        ([1], b"", "its header is no JSON object"),
        ({"a": F32}, b"\0" * 7, "its tensors end at byte 77, the file at 76"),
        ({"a": F32}, b"\0" * 9, "its tensors end at byte 77, the file at 78"),
        ({"a": {**F32, "shape": [3]}}, b"\0" * 8, "'a' does not lie where"),
        ({"a": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12, "'a' does not lie where"),
        ({"a": F32, "b": {**F32, "data_offsets": [4, 12]}}, b"\0" * 12, "'b' does not lie where"),
        ({"a": {**F32, "shape": [-2, -1]}}, b"\0" * 8, "'a' does not lie where"),
        ({"a": {**F32, "dtype": "F99"}}, b"\0" * 8, "its header is damaged"),
        ({"a": {"dtype": "F32"}}, b"", "its header is damaged"),
        ({"a": 3}, b"", "its header is damaged"),
        ({"__metadata__": 3}, b"", "its header is damaged"),
    ],
)
def test_a_damaged_header_is_refused(tmp_path: Path, header: object, rest: bytes, message: str) -> None:
    path = written(tmp_path / "model.safetensors", header, rest)
    with pytest.raises(DataError) as refusal:
        inspect_weights(path)
    assert message in refusal.value.what
    assert refusal.value.where == str(path)


@pytest.mark.parametrize("content", [b"", b"1234567", (1 << 62).to_bytes(8, "little"), (9).to_bytes(8, "little")])
def test_a_header_that_does_not_end_in_the_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match="its header does not end within it"):
        inspect_weights(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        inspect_weights(tmp_path / "model.safetensors")


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_damage_is_refused_or_changes_numbers_alone(weights: Path, place: int, value: int, cut: int) -> None:
    content = bytearray(weights.read_bytes())
    content[place % len(content)] = value
    damaged = weights.with_name("damaged.safetensors")
    damaged.write_bytes(content[: len(content) - cut % 3 * (cut % len(content))])
    assert outcome(damaged) in (f"{damaged.stat().st_size} bytes", f"refused {damaged}")


def outcome(path: Path) -> str:
    try:
        return f"{inspect_weights(path).bytes} bytes"
    except DataError as refusal:
        return f"refused {refusal.where}"
