"""Files are read, and distrusted."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError
from mlctl.graphs.inspection import GraphPort, inspect, read_graph


def branching() -> onnx.ModelProto:
    """If decides between adding a float weight [2] and running a foreign operator; an int64 tensor stands by."""
    value = helper.make_tensor_value_info
    weight = numpy_helper.from_array(np.ones(2, np.float32), "w")
    then = helper.make_graph(
        [helper.make_node("Add", ["x", "w"], ["t"])], "then", [], [value("t", 1, [None])], [weight]
    )
    other = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["e"], domain="mine")], "else", [], [value("e", 1, [None])]
    )
    graph = helper.make_graph(
        [
            helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other),
            helper.make_node("Add", ["y", "k"], ["z"]),
        ],
        "main",
        [value("x", TensorProto.FLOAT, ["batch", 2]), value("c", TensorProto.BOOL, [])],
        [value("z", TensorProto.FLOAT, ["batch", 2])],
        [
            numpy_helper.from_array(np.zeros((3, 4), np.float16), "k"),
            numpy_helper.from_array(np.zeros(9, np.int64), "i"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("mine", 1), helper.make_opsetid("", 20)])


def with_external_data(folder: Path, location: str) -> Path:
    """A model whose weight of 400 bytes lies at `location`, as the file claims."""
    weight = numpy_helper.from_array(np.ones(100, np.float32), "w")
    tensor = helper.make_tensor_value_info("x", TensorProto.FLOAT, [100])
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [tensor], [], [weight])
    model = helper.make_model(graph)
    onnx.external_data_helper.set_external_data(model.graph.initializer[0], location)
    model.graph.initializer[0].ClearField("raw_data")
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def test_a_graph_and_the_graphs_inside_it_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(branching(), path)
    found = inspect(path)
    assert found.opset == 20
    assert found.operators == (("Add", 2), ("If", 1), ("mine::Twice", 1))
    assert found.nodes == 4
    assert found.parameters == 2 + 12
    assert found.inputs == (GraphPort("x", "float32", ("batch", 2)), GraphPort("c", "bool", ()))
    assert found.bytes == path.stat().st_size


def test_external_data_beside_the_model_counts_as_its_bytes(tmp_path: Path) -> None:
    path = with_external_data(tmp_path, "model.onnx.data")
    (tmp_path / "model.onnx.data").write_bytes(np.ones(100, np.float32).tobytes())
    assert inspect(path).bytes == path.stat().st_size + 400


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "inner/../../secret"])
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"\0" * 400)
    with pytest.raises(DataError, match="lies outside the model's folder"):
        read_graph(with_external_data(folder, location))


def test_external_data_through_a_link_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 400)
    (folder / "weights").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match="lies outside the model's folder"):
        read_graph(with_external_data(folder, "weights"))


def test_missing_external_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file beside the model"):
        read_graph(with_external_data(tmp_path, "model.onnx.data"))


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 10], ids=["missing", "empty", "nonsense"])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        read_graph(path)
    assert refusal.value.where == str(path)


def test_external_data_with_a_name_that_no_file_can_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no name of a file"):
        read_graph(with_external_data(tmp_path, "a\0b"))


@pytest.mark.parametrize(("dims", "data_type"), [([-1], TensorProto.FLOAT), ([1], 99), ([1], TensorProto.UNDEFINED)])
def test_a_tensor_that_cannot_be_is_refused(tmp_path: Path, dims: list[int], data_type: int) -> None:
    model = branching()
    model.graph.initializer.add(name="odd", dims=dims, data_type=data_type)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="its tensor 'odd' has a type or a shape that no tensor can have"):
        read_graph(path)
