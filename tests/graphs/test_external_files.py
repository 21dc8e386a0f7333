"""Which files a model is made of, told by its bytes, against what onnx itself says."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs_from_elsewhere import linear
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.external_data_helper import convert_model_to_external_data

from mlctl.errors import DataError
from mlctl.graphs.external_files import model_files
from mlctl.graphs.inspection import graph_files, read_graph

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1)
# onnx writes no name with two dots in a row.
file_names = names.filter(lambda name: name not in (".", "m.onnx") and ".." not in name and len(name.encode()) < 200)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file_names)
def test_any_name_of_external_data_is_found(tmp_path: Path, name: str) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(linear(), path, save_as_external_data=True, location=name, size_threshold=0)
    assert model_files(path) == graph_files(path, read_graph(path)) == (path, tmp_path / name)
    (tmp_path / name).unlink()


def test_one_file_per_tensor_and_data_in_constants_are_found(tmp_path: Path) -> None:
    proto = linear()
    constant = onnx.numpy_helper.from_array(np.zeros(300, np.float32), "c")
    proto.graph.node.append(helper.make_node("Constant", [], ["unused"], value=constant))
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(300, np.float32), "other"))
    convert_model_to_external_data(proto, all_tensors_to_one_file=False, size_threshold=0, convert_attribute=True)
    onnx.save(proto, tmp_path / "m.onnx")
    found = model_files(tmp_path / "m.onnx")
    assert len(found) == 4
    assert set(found) == set(graph_files(tmp_path / "m.onnx", read_graph(tmp_path / "m.onnx")))


def test_a_model_that_holds_its_weights_is_one_file_whatever_lies_beside_it(tmp_path: Path) -> None:
    onnx.save(linear(), tmp_path / "m.onnx")
    (tmp_path / "m.onnx.data").write_bytes(b"of another")
    assert model_files(tmp_path / "m.onnx") == (tmp_path / "m.onnx",)


@pytest.mark.parametrize("location", ["../w.bin", "{folder}/w.bin", "link", "missing", "inner/../../w.bin"])
def test_what_lies_elsewhere_is_left_to_the_check_that_refuses_it(tmp_path: Path, location: str) -> None:
    inside = tmp_path / "models"
    (inside / "inner").mkdir(parents=True)
    (tmp_path / "w.bin").write_bytes(bytes(1000))
    (inside / "link").symlink_to(tmp_path / "w.bin")
    proto = linear()
    onnx.external_data_helper.set_external_data(proto.graph.initializer[0], location.format(folder=tmp_path))
    proto.graph.initializer[0].ClearField("raw_data")
    (inside / "m.onnx").write_bytes(proto.SerializeToString())
    assert model_files(inside / "m.onnx") == (inside / "m.onnx",)
    with pytest.raises(DataError, match="external data"):
        read_graph(inside / "m.onnx")


@pytest.mark.parametrize("content", [b"", b"\x0a\x08location\x12", b"\x0a\x08location\x12\xff\xff\xff", b"nothing"])
def test_any_bytes_are_one_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    assert model_files(tmp_path / "m.onnx") == (tmp_path / "m.onnx",)


def test_no_file_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file") as refusal:
        model_files(tmp_path / "m.onnx")
    assert refusal.value.where == str(tmp_path / "m.onnx")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    os.mkfifo(path)
    with pytest.raises(DataError, match="this is no file"):
        model_files(path)
