"""Graphs on disk: one file or two, the same answers, nothing outside the folder."""

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError
from mlctl.graphs.saving import DATA_NAME, load_graph, save_graph, tensor_bytes
from mlctl.runtime.session import OnnxSession

WEIGHT = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
SHIFT = np.ones(32, np.float32)


def two_products(*, is_typed: bool = False) -> onnx.ModelProto:
    """x [B, 32] times two weights of 4,096 bytes, plus a shift of 128; the second weight typed where asked for."""
    typed = helper.make_tensor("second", TensorProto.FLOAT, [32, 32], WEIGHT.ravel().tolist())
    second = typed if is_typed else numpy_helper.from_array(WEIGHT, "second")
    weights = [numpy_helper.from_array(WEIGHT, "first"), second, numpy_helper.from_array(SHIFT, "shift")]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["a"]),
            helper.make_node("MatMul", ["a", "second"], ["b"]),
            helper.make_node("Add", ["b", "shift"], ["y"]),
        ],
        "products",
        [value("x", TensorProto.FLOAT, ["batch", 32])],
        [value("y", TensorProto.FLOAT, ["batch", 32])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("is_typed", [False, True], ids=["raw", "typed"])
def test_two_files_answer_as_one(tmp_path: Path, is_typed: bool) -> None:
    model = two_products(is_typed=is_typed)
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = save_graph(model, tmp_path / "one", external_above=8320)
    two = save_graph(model, tmp_path / "two", external_above=8319)
    assert [each.name for each in (tmp_path / "one").iterdir()] == ["model.onnx"]
    assert sorted(each.name for each in (tmp_path / "two").iterdir()) == ["model.onnx", DATA_NAME]
    rows = np.random.default_rng(1).normal(size=(3, 32)).astype(np.float32)
    answers = [OnnxSession(each, threads=1)((rows,)) for each in (one, two)]
    assert answers[0].tobytes() == answers[1].tobytes()
    np.testing.assert_allclose(answers[0], rows @ WEIGHT @ WEIGHT + SHIFT, rtol=1e-4, atol=1e-4)


def test_small_tensors_stay_in_the_graph_and_offsets_can_be_mapped(tmp_path: Path) -> None:
    path = save_graph(two_products(), tmp_path, external_above=0)
    inside = onnx.load(path, load_external_data=False).graph.initializer
    assert [tensor.name for tensor in inside if tensor.data_location != TensorProto.EXTERNAL] == ["shift"]
    places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in inside[:2]]
    assert places == [{"location": DATA_NAME, "offset": str(offset), "length": "4096"} for offset in (0, 4096)]
    onnx.checker.check_model(path, full_check=True)


@pytest.mark.parametrize("above", [0, 10**9], ids=["two files", "one file"])
def test_what_is_saved_is_loaded_and_the_model_keeps_its_data(tmp_path: Path, above: int) -> None:
    model, before = two_products(), two_products()
    path = save_graph(model, tmp_path, external_above=above)
    assert model == before
    assert load_graph(path) == before


def test_saving_again_writes_the_same_bytes_and_no_second_file_that_is_not_needed(tmp_path: Path) -> None:
    written = []
    for _ in range(2):
        save_graph(two_products(), tmp_path, external_above=0)
        written.append([each.read_bytes() for each in sorted(tmp_path.iterdir())])
    assert written[0] == written[1]
    save_graph(two_products(), tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_a_file_of_that_name_in_the_working_directory_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / DATA_NAME).write_text("mine")
    monkeypatch.chdir(tmp_path / "elsewhere")
    save_graph(two_products(), tmp_path, external_above=0)
    assert (tmp_path / "elsewhere" / DATA_NAME).read_text() == "mine"


def test_data_that_are_cut_off_or_gone_are_refused(tmp_path: Path) -> None:
    path = save_graph(two_products(), tmp_path, external_above=0)
    os.truncate(tmp_path / DATA_NAME, 5000)
    with pytest.raises(DataError, match="external data") as refusal:
        load_graph(path)
    assert refusal.value.where == str(path)
    (tmp_path / DATA_NAME).unlink()
    with pytest.raises(DataError, match="external data"):
        load_graph(path)


def test_data_outside_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    path = save_graph(two_products(), tmp_path / "model", external_above=0)
    (tmp_path / "model" / DATA_NAME).rename(tmp_path / DATA_NAME)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer[:2]:
        tensor.external_data[0].value = f"../{DATA_NAME}"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(DataError, match="outside the model's folder"):
        load_graph(path)


TYPES = [
    TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT64,
    TensorProto.UINT8, TensorProto.BOOL, TensorProto.INT4, TensorProto.UINT4, TensorProto.FLOAT8E4M3FN,
]  # fmt: skip


@given(kind=st.sampled_from(TYPES), dims=st.lists(st.integers(0, 5), max_size=3))
def test_the_size_of_a_tensor_is_that_of_its_raw_bytes(kind: int, dims: list[int]) -> None:
    values = np.zeros(dims, helper.tensor_dtype_to_np_dtype(kind))
    typed = helper.make_tensor("t", kind, dims, values.ravel().tolist())
    assert tensor_bytes(typed) == len(numpy_helper.from_array(values, "t").raw_data)


def test_the_size_of_texts_is_their_length() -> None:
    assert tensor_bytes(numpy_helper.from_array(np.array(["ab", "c"], object), "t")) == 3


def test_a_model_without_its_data_is_not_saved(tmp_path: Path) -> None:
    path = save_graph(two_products(), tmp_path, external_above=0)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not loaded"):
        save_graph(onnx.load(path, load_external_data=False), tmp_path)
    assert path.read_bytes() == before
