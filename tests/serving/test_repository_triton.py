"""What Triton is told, read by Triton's own description of it."""

from dataclasses import replace
from pathlib import Path

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from published_models import candidate, candidates, triton_config
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

from mlctl.serving.repository.publishing import publish
from mlctl.serving.repository.record import GoldenRecord, PortRecord, VersionRecord
from mlctl.serving.repository.repository import Repository
from mlctl.serving.repository.triton_config import config_text, write_config

DTYPES = {
    "bool": "TYPE_BOOL", "uint8": "TYPE_UINT8", "uint16": "TYPE_UINT16", "uint32": "TYPE_UINT32",
    "uint64": "TYPE_UINT64", "int8": "TYPE_INT8", "int16": "TYPE_INT16", "int32": "TYPE_INT32",
    "int64": "TYPE_INT64", "float16": "TYPE_FP16", "float32": "TYPE_FP32", "float64": "TYPE_FP64",
    "object": "TYPE_STRING", "bfloat16": "TYPE_BF16",
}  # fmt: skip


@pytest.fixture
def record(tmp_path: Path) -> VersionRecord:
    """Of a published version."""
    repository = Repository(tmp_path / "repository")
    publish(repository, candidate(tmp_path / "artifact"))
    found = repository.record("m", 1)
    assert found
    return found


def parsed(name: str, version: int, record: VersionRecord | None) -> ModelConfig:
    return text_format.Parse(config_text(name, version, record), ModelConfig())


def test_the_configuration_of_a_published_model(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    publish(Repository(root), candidate(tmp_path / "artifact", name="digits"))
    config = triton_config(root, "digits")
    assert (config.name, config.platform, config.max_batch_size) == ("digits", "onnxruntime_onnx", 64)
    (x,), (p,) = config.input, config.output
    assert (x.name, x.data_type, list(x.dims)) == ("x", DataType.Value("TYPE_FP32"), [4])
    assert (p.name, p.data_type, list(p.dims)) == ("p", DataType.Value("TYPE_FP32"), [3])
    assert (root / "digits" / p.label_filename).read_text().splitlines() == ["low", "middle", "high"]
    assert list(config.version_policy.specific.versions) == [1]


@pytest.mark.parametrize(("dtype", "name"), list(DTYPES.items()))
def test_every_type_has_tritons_name(record: VersionRecord, dtype: str, name: str) -> None:
    config = parsed("m", 1, replace(record, inputs=(PortRecord("x", dtype, (None, 2)),)))
    assert config.input[0].data_type == DataType.Value(name)


def test_a_model_whose_requests_cannot_be_joined_says_its_whole_shapes(record: VersionRecord) -> None:
    ports = (PortRecord("x", "float32", (1, 3, None)), PortRecord("scalar", "int64", ()))
    config = parsed("m", 1, replace(record, inputs=ports, max_batch=0))
    assert config.max_batch_size == 0
    assert list(config.input[0].dims) == [1, 3, -1]
    # Triton refuses a port without dimensions; reshape hands the number on as the graph wants it.
    assert (list(config.input[1].dims), config.input[1].HasField("reshape")) == ([1], True)
    assert list(config.input[1].reshape.shape) == []


def test_one_number_for_every_row_is_a_port_without_dimensions(record: VersionRecord) -> None:
    config = parsed("m", 1, replace(record, outputs=(PortRecord("y", "float32", (None,)),)))
    assert (list(config.output[0].dims), config.output[0].HasField("reshape")) == ([1], True)


def test_what_triton_has_no_word_for_is_left_to_it(record: VersionRecord) -> None:
    config = parsed("m", 2, replace(record, inputs=(PortRecord("x", "complex64", (None, 2)),)))
    assert (len(config.input), len(config.output), config.platform) == (0, 0, "onnxruntime_onnx")
    assert len(parsed("m", 2, None).input) == 0


@given(
    st.text(min_size=1, max_size=30),
    st.lists(st.one_of(st.none(), st.integers(1, 2**31)), max_size=5),
    st.integers(1, 10**17),
)
def test_any_name_and_shape_comes_back(name: str, sizes: "list[int | None]", version: int) -> None:
    ports = (PortRecord(name, "float32", (None, *sizes)),)
    described = parsed(name, version, _record(ports))
    assert (described.name, described.input[0].name) == (name, name)
    assert list(described.version_policy.specific.versions) == [version]
    assert list(described.input[0].dims) == ([-1 if size is None else size for size in sizes] or [1])


def _record(ports: tuple[PortRecord, ...]) -> VersionRecord:
    return VersionRecord(
        "m", 1, "", "", "", "", "", "", "", "", "", (), ports, ports, 8, (), (), GoldenRecord(1, 1e-4, ""), ()
    )


def test_a_configuration_of_somebody_else_is_left_as_it_is(tmp_path: Path, record: VersionRecord) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_text('name: "m"\ninstance_group [ { count: 4 } ]\n')
    assert not write_config(tmp_path, "m", 1, record)
    assert "instance_group" in path.read_text()
    path.unlink()
    assert write_config(tmp_path, "m", 1, record)
    assert write_config(tmp_path, "m", 2, record)
    assert "versions: [ 2 ]" in path.read_text()


def test_a_version_with_other_inputs_does_not_change_what_triton_is_told_of_the_live_one(tmp_path: Path) -> None:
    root = tmp_path / "repository"
    first, second = candidates(tmp_path / "artifacts", 2)
    publish(Repository(root), first, ["production"])
    found = publish(Repository(root), replace(second, inputs=(PortRecord("other", "int64", (None, 9)),)))
    assert (found.version, found.live) == (2, 1)
    config = triton_config(root)
    assert (config.input[0].name, list(config.version_policy.specific.versions)) == ("x", [1])
