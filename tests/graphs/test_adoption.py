"""A graph from elsewhere takes raw rows and gives the task's answer, in ONNX Runtime, against NumPy."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from graphs_from_elsewhere import linear, mean_of_words, model
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from mlctl.errors import DataError
from mlctl.graphs.adoption import Ending, adopt, end, open_batch
from mlctl.graphs.fitting import RawInput, answer_name, fixed_batch, matched
from mlctl.graphs.foreign_model import ForeignModel

WHERE = Path("there.onnx")


def run(proto: onnx.ModelProto, *rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The first output, with inputs in the graph's order, after the full check."""
    onnx.checker.check_model(proto, full_check=True)
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    feed = {port.name: each for port, each in zip(session.get_inputs(), rows, strict=True)}
    return np.asarray(session.run(None, feed)[0])


def weights(proto: onnx.ModelProto, name: str) -> npt.NDArray[Any]:
    return next(onnx.numpy_helper.to_array(each) for each in proto.graph.initializer if each.name == name)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(
    foreign=st.sampled_from(["float32", "float64", "float16"]),
    raw=st.sampled_from(["uint8", "float32", "int64"]),
    scale=st.sampled_from([1.0, 16.0, 255.0]),
    standardized=st.booleans(),
    ending=st.sampled_from([None, "softmax"]),
)
def test_raw_rows_come_to_what_numpy_says(
    foreign: str, raw: str, scale: float, standardized: bool, ending: Ending | None
) -> None:
    generator = np.random.default_rng(1)
    rows = generator.integers(0, 17, (9, 5)).astype(raw)
    mean, deviation = (tuple(generator.uniform(0.5, 2, 5).tolist()) for _ in range(2)) if standardized else ((), ())
    given_input = RawInput("features", raw, (5,), scale, mean, deviation)
    proto = linear(5, 3, dtype=foreign)
    matrix = weights(proto, "w").astype(np.float64)
    inputs = matched(proto, (given_input,), WHERE)
    adopt(proto, inputs, "scores")
    if ending:
        end(proto, ending, "probabilities")
    expected = ((rows / scale - (np.array(mean) if standardized else 0)) / (deviation or 1)) @ matrix
    if ending:
        powers = np.exp(expected - expected.max(axis=1, keepdims=True))
        expected = powers / powers.sum(axis=1, keepdims=True)
    found = run(proto, rows)
    assert found.dtype == np.float32
    # Five products of numbers up to 17 (float32 keeps 6e-8 of each, float16 5e-4, through a softmax at worst alike).
    limit = 0.2 if foreign == "float16" else 2e-4
    np.testing.assert_allclose(found, expected, atol=limit, rtol=0)
    assert [each.name for each in proto.graph.input] == ["x"]
    assert len(proto.graph.input[0].type.tensor_type.shape.dim) == 2


def test_what_fits_already_gets_no_node() -> None:
    proto = linear()
    adopt(proto, matched(proto, (RawInput("image", "float32", (16,)),), WHERE), "scores")
    assert [node.op_type for node in proto.graph.node] == ["MatMul", "Identity"]
    assert [node.name for node in proto.graph.node] == ["MatMul_0", "Identity_0"]


def test_channels_are_scaled_each_by_its_own_numbers() -> None:
    proto = model(
        [helper.make_node("GlobalAveragePool", ["x"], ["p"]), helper.make_node("Flatten", ["p"], ["y"])],
        {"x": (TensorProto.FLOAT, [None, 2, "height", "width"])},
        {"y": (TensorProto.FLOAT, [None, 2])},
        {},
    )
    rows = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 5)).astype(np.uint8)
    raw = RawInput("image", "uint8", (2, 4, 5), 255.0, (0.5, 0.25), (0.2, 0.1))
    adopt(proto, matched(proto, (raw,), WHERE), "y")
    scaled = (rows / 255.0 - np.reshape([0.5, 0.25], (2, 1, 1))) / np.reshape([0.2, 0.1], (2, 1, 1))
    np.testing.assert_allclose(run(proto, rows), scaled.mean(axis=(2, 3)), atol=1e-5)  # float32 means of 20 numbers
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


def test_inputs_are_matched_by_name_and_come_in_the_datas_order() -> None:
    proto = mean_of_words()
    fields = (RawInput("ids", "int64", (6,)), RawInput("mask", "uint8", (6,)), RawInput("numbers", "float32", (3,)))
    inputs = matched(proto, fields, WHERE)
    assert [(each.name, each.raw.name) for each in inputs] == [("ids", "ids"), ("mask", "mask"), ("numbers", "numbers")]
    generator = np.random.default_rng(2)
    rows = (
        generator.integers(0, 50, (4, 6)),
        generator.integers(0, 2, (4, 6)).astype(np.uint8),
        generator.normal(size=(4, 3)).astype(np.float32),
    )
    vectors = weights(proto, "words")[rows[0]] * rows[1][..., None]
    expected = vectors.mean(axis=1) + rows[2] @ weights(proto, "projection")
    adopt(proto, inputs, answer_name(proto, WHERE))
    assert [each.name for each in proto.graph.input] == ["ids", "mask", "numbers"]
    np.testing.assert_allclose(run(proto, *rows), expected, atol=1e-5)  # sums of six float32 numbers near 1


def test_other_names_are_matched_by_position() -> None:
    fields = (RawInput("a", "float32", (3,)), RawInput("b", "int64", (6,)), RawInput("c", "int64", (6,)))
    assert [each.name for each in matched(mean_of_words(), fields, WHERE)] == ["numbers", "ids", "mask"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            [RawInput("image", "uint8", (1, 4, 4))],
            r"takes 'x' of float32 \[rows, 16\], .* 'image' of uint8 \[1, 4, 4\]",
        ),
        ([RawInput("image", "uint8", (15,))], r"'x' of float32 \[rows, 16\], the prepared data holds 'image' of uint8"),
        ([RawInput("a", "uint8", (16,))] * 2, r"holds 'a' of uint8 \[16\] and 'a' of uint8 \[16\]"),
        ([], "the prepared data holds nothing"),
    ],
)
def test_rows_of_another_shape_are_refused_with_both_sides(fields: list[RawInput], message: str) -> None:
    with pytest.raises(DataError, match=message) as refusal:
        matched(linear(), fields, WHERE)
    assert refusal.value.where == "there.onnx"


@pytest.mark.parametrize(
    ("kind", "field", "message"),
    [
        (TensorProto.INT64, RawInput("i", "float32", (3,)), "prepare numbers of the dtype"),
        (TensorProto.INT64, RawInput("i", "uint8", (3,), 255.0), "set the scale to 1"),
        (TensorProto.UINT8, RawInput("i", "int64", (3,)), "prepare numbers of the dtype"),
        (TensorProto.STRING, RawInput("i", "float32", (3,)), "prepare numbers of the dtype"),
        (TensorProto.INT32, RawInput("i", "int64", (3,)), None),
        (TensorProto.INT64, RawInput("i", "uint8", (3,)), None),
        (TensorProto.UINT8, RawInput("i", "uint8", (3,)), None),
    ],
)
def test_whole_numbers_are_only_taken_from_whole_numbers(kind: int, field: RawInput, message: str | None) -> None:
    nodes = [helper.make_node("Cast", ["i"], ["o"], to=TensorProto.FLOAT)]
    proto = model(nodes, {"i": (kind, ["n", 3])}, {"o": (TensorProto.FLOAT, ["n", 3])}, {})
    if message is None:
        adopt(proto, matched(proto, (field,), WHERE), "o")
        rows = np.arange(6).reshape(2, 3).astype(field.dtype)
        assert run(proto, rows).tolist() == rows.tolist()
        return
    with pytest.raises(DataError) as refusal:
        matched(proto, (field,), WHERE)
    assert message in refusal.value.next


def test_a_graph_inside_a_node_sees_scaled_rows_too() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "b", [], [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)]
    )
    same = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["s"])], "c", [], [helper.make_tensor_value_info("s", 1, None)]
    )
    nodes = [helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=same)]
    proto = model(nodes, {"x": (1, ["n", 2])}, {"y": (1, ["n", 2])}, {"yes": np.array(True)})
    adopt(proto, matched(proto, (RawInput("x", "uint8", (2,), 4.0),), WHERE), "y")
    assert run(proto, np.array([[4, 8]], np.uint8)).tolist() == [[-1, -2]]


def test_the_answer_is_the_first_output_of_floats_and_the_only_one_left() -> None:
    nodes = [
        helper.make_node("ArgMax", ["x"], ["label"], axis=1),
        helper.make_node("Softmax", ["x"], ["probabilities"], axis=1),
    ]
    outputs: dict[str, tuple[int, list[int | str | None]]] = {
        "label": (TensorProto.INT64, ["n", 1]),
        "probabilities": (1, ["n", 3]),
    }
    proto = model(nodes, {"x": (1, ["n", 3])}, outputs, {})
    assert answer_name(proto, WHERE) == "probabilities"
    adopt(proto, matched(proto, (RawInput("x", "float32", (3,)),), WHERE), "probabilities")
    assert [each.name for each in proto.graph.output] == ["probabilities"]
    alone = model(nodes[:1], {"x": (1, ["n", 3])}, {"label": outputs["label"]}, {})
    with pytest.raises(DataError, match=r"no output .* holds floating-point numbers: 'label' of int64 \[n, 1\]"):
        answer_name(alone, WHERE)


def test_a_name_that_is_taken_is_not_given_again() -> None:
    nodes = [
        helper.make_node("Neg", ["x"], ["probabilities"], "same"),
        helper.make_node("Neg", ["probabilities"], ["y"], "same"),
        helper.make_node("Neg", ["y"], ["z"], "same_0"),
    ]
    proto = model(nodes, {"x": (1, ["n", 3])}, {"z": (1, ["n", 3])}, {})
    adopt(proto, matched(proto, (RawInput("x", "float32", (3,)),), WHERE), "z")
    end(proto, "softmax", "probabilities")
    names = [node.name for node in proto.graph.node]
    assert len(set(names)) == len(names) == 4
    assert proto.graph.output[0].name == "probabilities_1"
    rows = np.array([[1, 2, 3]], np.float32)
    expected = np.exp(-rows) / np.exp(-rows).sum()
    np.testing.assert_allclose(run(proto, rows), expected, atol=1e-6)  # three float32 exponentials


@pytest.mark.parametrize("held_as", ["initializer", "constant"])
@pytest.mark.parametrize("size", [1, 3])
def test_a_fixed_batch_is_opened_reshapes_too(held_as: str, size: int) -> None:
    shape = np.array([size, 6])
    made = [] if held_as == "initializer" else [helper.make_node("Constant", [], ["s"], value=from_array(shape))]
    nodes = [
        *made,
        helper.make_node("Reshape", ["x", "s"], ["flat"], allowzero=1),
        helper.make_node("Reshape", ["b", "bs"], ["bias"]),
        helper.make_node("Add", ["flat", "bias"], ["y"]),
    ]
    held = {"s": shape} if held_as == "initializer" else {}
    constants = {**held, "b": np.arange(6, dtype=np.float32), "bs": np.array([1, 6])}
    proto = model(nodes, {"x": (1, [size, 2, 3])}, {"y": (1, [size, 6])}, constants)
    inputs = matched(proto, (RawInput("x", "float32", (2, 3)),), WHERE)
    assert fixed_batch(inputs) == size
    adopt(proto, inputs, "y")
    open_batch(proto, size)
    for count in (1, 2, 17):
        rows = np.random.default_rng(0).normal(size=(count, 2, 3)).astype(np.float32)
        assert np.array_equal(run(proto, rows), rows.reshape(count, 6) + np.arange(6, dtype=np.float32))


def from_array(values: npt.NDArray[Any]) -> onnx.TensorProto:
    return onnx.numpy_helper.from_array(values)


def test_weights_that_old_files_list_among_their_inputs_are_none_of_a_callers() -> None:
    proto = linear()
    proto.ir_version = 3
    proto.graph.input.append(helper.make_tensor_value_info("w", 1, [16, 2]))
    adopt(proto, matched(proto, (RawInput("x", "float32", (16,)),), WHERE), "scores")
    rows = np.ones((2, 16), np.float32)
    np.testing.assert_allclose(run(proto, rows), rows @ weights(proto, "w"), atol=1e-5)  # 16 float32 products near 1


def test_an_operator_set_that_nothing_runs_is_refused() -> None:
    proto = linear()
    proto.opset_import[0].version = 6
    with pytest.raises(DataError, match="operator set 6; the oldest that can be run is 7"):
        adopt(proto, matched(proto, (RawInput("x", "float32", (16,)),), WHERE), "scores")


@pytest.mark.parametrize("batch", [None, 1, 4])
@pytest.mark.parametrize("ending", [None, "softmax"])
def test_the_reference_asks_the_file_itself_in_its_own_batches(
    tmp_path: Path, batch: int | None, ending: Literal["softmax"] | None
) -> None:
    proto = linear(5, 3, batch="rows" if batch is None else batch)
    onnx.save(proto, tmp_path / "m.onnx")
    inputs = matched(proto, (RawInput("f", "uint8", (5,), 16.0),), WHERE)
    foreign = ForeignModel(tmp_path / "m.onnx", inputs, "scores", threads=1, batch=batch)
    foreign.ending = ending
    rows = np.random.default_rng(0).integers(0, 17, (7, 5)).astype(np.uint8)
    expected = (rows / 16) @ weights(proto, "w")
    if ending:
        expected = np.exp(expected) / np.exp(expected).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(foreign((rows,)), expected, atol=1e-6)  # five float32 products up to 1


def test_whole_numbers_that_the_graph_cannot_hold_are_told_and_not_wrapped() -> None:
    nodes = [helper.make_node("Cast", ["i"], ["o"], to=TensorProto.FLOAT)]
    proto = model(nodes, {"i": (TensorProto.INT32, ["n", 1])}, {"o": (TensorProto.FLOAT, ["n", 1])}, {})
    (one,) = matched(proto, (RawInput("i", "int64", (1,)),), WHERE)
    assert one.preprocessed(np.array([[2**31 - 1]])).tolist() == [[2**31 - 1]]
    with pytest.raises(DataError, match="numbers that the graph's 'i' of int32 does not"):
        one.preprocessed(np.array([[2**31]]))
