"""Rewrites that let integers flow: no answer changes, and what stands between integers is gone."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlctl.compression.quantization.calibration import Resources, Rows, calibrate
from mlctl.compression.quantization.integer_flow import byte_inputs, global_means, pool_means, relu_first
from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.events import silent
from mlctl.graphs.ordering import sort_nodes
from mlctl.runtime.session import OnnxSession

OPTIONS = StaticOptions(choose_scheme("auto", "auto", ["avx512_vnni"]))
ROWS = np.random.default_rng(0).integers(0, 17, (64, 1, 8, 8)).astype(np.uint8)


def image_graph(divisor: float = 16.0, keeps: int = 0) -> onnx.ModelProto:
    """uint8 images, divided, through convolution, max-pool, ReLU and the mean of every channel."""
    random = np.random.default_rng(1)
    weights = {
        "divisor": np.float32(divisor),
        "kernel": random.standard_normal((4, 1, 3, 3)).astype(np.float32),
        "axes": np.array([2, 3]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["cast"], "cast_node", to=TensorProto.FLOAT),
        helper.make_node("Div", ["cast", "divisor"], ["scaled"], "divide"),
        helper.make_node("Conv", ["scaled", "kernel"], ["features"], "convolution", kernel_shape=[3, 3]),
        helper.make_node("MaxPool", ["features"], ["pooled"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["pooled"], ["positive"], "relu"),
        helper.make_node("ReduceMean", ["positive", "axes"], ["means"], "mean", keepdims=keeps),
    ]
    shape: list[str | int | None] = ["batch", 4, 1, 1] if keeps else ["batch", 4]
    graph = helper.make_graph(
        nodes,
        "images",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("means", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def answers(model: onnx.ModelProto) -> np.ndarray:
    return OnnxSession(model.SerializeToString(), threads=1, is_optimized=False)((ROWS,))


def integers(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    path = folder / "float.onnx"
    onnx.save(model, path)
    found = calibrate(
        path,
        tensors_to_calibrate(model, OPTIONS),
        Rows((ROWS,), np.arange(len(ROWS))),
        rule=RangeRule("minmax"),
        resources=Resources(1, 1 << 20, folder, folder),
        tell=silent,
    )
    return StaticQuantizer(model, found.ranges, OPTIONS).quantized()


def test_a_relu_goes_before_the_max_pool_that_it_followed_and_no_bit_changes() -> None:
    before, after = image_graph(), image_graph()
    assert relu_first(after) == {"positive_unpooled": "positive"}
    assert [node.op_type for node in after.graph.node][3:5] == ["Relu", "MaxPool"]
    assert np.array_equal(answers(after), answers(before))


def test_a_relu_stays_where_others_read_the_pooled_tensor_too() -> None:
    model = image_graph()
    model.graph.output.append(helper.make_tensor_value_info("pooled", TensorProto.FLOAT, None))
    untouched = model.SerializeToString()
    assert relu_first(model) == {}
    assert model.SerializeToString() == untouched


@pytest.mark.parametrize("keeps", [0, 1])
def test_the_mean_of_a_channel_becomes_a_pooling_with_the_same_answers(keeps: int) -> None:
    before, after = image_graph(keeps=keeps), image_graph(keeps=keeps)
    assert global_means(after) == ("mean",)
    pool_means(after, ["mean"])
    assert "ReduceMean" not in {node.op_type for node in after.graph.node}
    # Both are sums of nine float32 numbers of one size in some order: 9 roundings of 2^-24 of the sum at most.
    np.testing.assert_allclose(answers(after), answers(before), rtol=9 * 2.0**-24)


def test_a_mean_over_other_axes_stays() -> None:
    model = image_graph()
    next(each for each in model.graph.initializer if each.name == "axes").CopyFrom(
        numpy_helper.from_array(np.array([1, 2]), "axes")
    )
    assert global_means(model) == ()


@settings(max_examples=30)
@given(st.sampled_from([1.0, 2.0, 3.0, 10.0, 16.0, 127.5, 255.0]))
def test_the_levels_of_a_raw_input_are_its_own_values(divisor: float) -> None:
    (raw,) = byte_inputs(image_graph(divisor))
    scale = np.float32(np.float32(raw.range.high) / np.float32(255))
    floats = np.arange(256, dtype=np.float32) / np.float32(divisor)
    assert raw.range.low == 0
    assert np.array_equal(np.rint(floats / scale), np.arange(256))


def test_raw_pixels_go_into_the_first_integer_convolution_as_they_are(tmp_path: Path) -> None:
    written = integers(image_graph(), tmp_path)
    kinds = Counter(node.op_type for node in written.graph.node)
    assert (kinds["Cast"], kinds["Div"], kinds["Relu"], kinds["ReduceMean"]) == (0, 0, 0, 0)
    first = next(node for node in written.graph.node if "image" in node.input)
    assert first.op_type == "DequantizeLinear"
    scales = {each.name: numpy_helper.to_array(each) for each in written.graph.initializer}
    assert float(scales[first.input[1]]) == pytest.approx(1 / 16, rel=1e-6)
    assert int(scales[first.input[2]]) == 0


def test_integers_that_flow_answer_as_the_float_graph_does(tmp_path: Path) -> None:
    model = image_graph()
    expected, found = answers(model), OnnxSession(integers(model, tmp_path).SerializeToString(), threads=1)((ROWS,))
    # Three roundings to 256 levels (features, means) and one of the weights to 255: each half a step at the most.
    step = float(expected.max()) / 255
    assert np.abs(found - expected).max() < 6 * step


def test_an_integer_graph_is_one_that_the_checker_passes(tmp_path: Path) -> None:
    written = integers(image_graph(), tmp_path)
    onnx.checker.check_model(written, full_check=True)


@settings(max_examples=50)
@given(st.permutations(range(6)))
def test_nodes_in_any_order_are_sorted_into_the_one_that_runs(order: list[int]) -> None:
    model = image_graph()
    nodes = [onnx.NodeProto.FromString(model.graph.node[index].SerializeToString()) for index in order]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    sort_nodes(model.graph)
    assert [node.name for node in model.graph.node] == ["cast_node", "divide", "convolution", "pool", "relu", "mean"]
