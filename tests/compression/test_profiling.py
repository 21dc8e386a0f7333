"""Which nodes lose time as integers, and which kernels are theirs."""

import tempfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from float_graphs import encoder, made, normal, perceptron
from onnx import helper

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.kernel_times import KernelTimes, kernel_times, regions
from mlctl.compression.quantization.profiling import slow_nodes
from mlctl.errors import DataError, StepFailed

X = {"x": (onnx.TensorProto.FLOAT, ["batch", 8, 24, 24])}
ROWS = (normal(4, 8, 24, 24),)


def convolution() -> onnx.ModelProto:
    return made([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], X, {"w": normal(16, 8, 3, 3)})


def dynamic_convolution() -> onnx.ModelProto:
    """The same with ConvInteger, 5 to 9 times slower than Conv in ONNX Runtime."""
    values = np.clip(np.rint(normal(16, 8, 3, 3) * 40), -127, 127).astype(np.int8)
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], "x_quantize"),
        helper.make_node("ConvInteger", ["q", "w", "z"], ["i"], "conv_quant"),
        helper.make_node("Cast", ["i"], ["c"], "conv_cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", ["s", "scale"], ["m"], "conv_scales"),
        helper.make_node("Mul", ["c", "m"], ["y"], "conv_scaled"),
    ]
    return made(nodes, X, {"w": values, "scale": np.array(1 / 40, np.float32)})


def test_a_node_that_loses_is_found_and_nothing_is_left(tmp_path: Path) -> None:
    (found,) = slow_nodes(convolution(), dynamic_convolution(), ROWS, threads=1, batch=4, scratch=tmp_path)
    assert found.node == "conv"
    assert found.quantized_ms > found.float_ms > 0
    assert list(tmp_path.iterdir()) == []


def test_a_graph_without_integers_has_nothing_to_lose(tmp_path: Path) -> None:
    assert slow_nodes(convolution(), convolution(), ROWS, threads=1, batch=2, scratch=tmp_path) == ()


def test_nothing_is_left_when_it_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(StepFailed, match="cannot answer this batch"):
        slow_nodes(convolution(), dynamic_convolution(), (normal(4, 7, 24, 24),), threads=1, batch=4)
    assert list(tmp_path.iterdir()) == []


def test_no_rows_are_refused() -> None:
    with pytest.raises(DataError, match="no rows to time"):
        slow_nodes(convolution(), dynamic_convolution(), (ROWS[0][:0],), threads=1, batch=4)


def test_only_nodes_of_the_quantizer_are_named() -> None:
    for known in (encoder(), perceptron()):
        quantizer = DynamicQuantizer(known.model, WeightForm())
        found = slow_nodes(known.model, quantizer.quantized(), known.rows, threads=1, batch=8)
        assert {each.node for each in found} <= set(quantizer.nodes)


def graph(*nodes: tuple[str, str, str, str]) -> onnx.GraphProto:
    made_nodes = [
        helper.make_node(kind, inputs.split(), outputs.split(), name) for name, kind, inputs, outputs in nodes
    ]
    return helper.make_graph(made_nodes, "some", [], [])


FLOAT = graph(
    ("c0", "Conv", "x w0", "t0"),
    ("r0", "Relu", "t0", "t1"),
    ("c1", "Conv", "t1 w1", "t2"),
    ("r1", "Relu", "t2", "t3"),
    ("flat", "Flatten", "t3", "t4"),
    ("fc", "Gemm", "t4 w2", "y"),
)


def test_kernels_of_a_float_graph_in_blocked_layout() -> None:
    """ONNX Runtime names them after tensors, and fuses each ReLU into its convolution."""
    optimized = graph(
        ("Reorder", "ReorderInput", "x", "xb"),
        ("t1_nchwc", "Conv", "xb w0", "b0"),
        ("t3_nchwc", "Conv", "b0 w1", "b1"),
        ("ReorderOutput", "ReorderOutput", "b1", "t3"),
        ("flat", "Flatten", "t3", "t4"),
        ("fused fc", "FusedGemm", "t4 w2", "y"),
    )
    times = {"Reorder": 1.0, "t1_nchwc": 2.0, "t3_nchwc": 4.0, "ReorderOutput": 8.0, "flat": 16.0, "fused fc": 32.0}
    found = kernel_times(FLOAT, optimized, times)
    assert found == KernelTimes({"r0": 3.0, "r1": 12.0, "flat": 16.0, "fc": 32.0}, frozenset())


def test_kernels_of_an_integer_graph_in_another_layout() -> None:
    """Conversions between types and layouts go to the integer kernel that they serve, on either side."""
    optimized = graph(
        ("x_QuantizeLinear", "QuantizeLinear", "x s z", "xq"),
        ("Transpose", "Transpose", "xq", "xt"),
        ("c0_token_1", "QLinearConv", "xt s z w0", "q0"),
        ("c1_quant", "QLinearConv", "q0 s z w1", "q1"),
        ("Transpose_token_2", "Transpose", "q1", "q2"),
        ("t3_DequantizeLinear", "DequantizeLinear", "q2 s z", "t3"),
        ("flat", "Flatten", "t3", "t4"),
        ("fc", "Gemm", "t4 w2", "y"),
    )
    times = dict(
        zip((node.name for node in optimized.node), (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0), strict=True)
    )
    found = kernel_times(FLOAT, optimized, times)
    assert found == KernelTimes({"c0": 7.0, "c1": 56.0, "flat": 64.0, "fc": 128.0}, frozenset({"c0", "c1"}))


def test_weights_that_are_unpacked_for_a_float_kernel_are_its_burden() -> None:
    optimized = graph(
        ("w2_DequantizeLinear", "DequantizeLinear", "w2q s z", "w2f"),
        ("fc", "Gemm", "t4 w2f", "y"),
    )
    found = kernel_times(FLOAT, optimized, {"w2_DequantizeLinear": 2.0, "fc": 3.0})
    assert found == KernelTimes({"fc": 5.0}, frozenset({"fc"}))


def test_an_activation_that_two_nodes_read_is_paid_by_both() -> None:
    floats = graph(("a", "MatMul", "x w", "ya"), ("b", "MatMul", "x v", "yb"))
    optimized = graph(
        ("x_quantize", "DynamicQuantizeLinear", "x", "q s z"),
        ("a", "MatMulIntegerToFloat", "q w s z", "ya"),
        ("b", "MatMulIntegerToFloat", "q v s z", "yb"),
    )
    found = kernel_times(floats, optimized, {"x_quantize": 2.0, "a": 3.0, "b": 4.0})
    assert found.milliseconds == {"a": 4.0, "b": 5.0}


def test_what_was_fused_behind_a_node_is_compared_with_it() -> None:
    before = KernelTimes({"r0": 1.0, "r1": 1.0, "flat": 1.0, "fc": 1.0}, frozenset())
    after = KernelTimes({"c0": 1.0, "c1": 1.0, "r1": 1.0, "flat": 1.0, "fc": 1.0}, frozenset({"c0", "c1", "fc"}))
    found = set(regions(FLOAT, ["c0", "c1", "fc"], before, after))
    assert found == {frozenset({"c0", "r0"}), frozenset({"c1"}), frozenset({"fc"})}


def test_nodes_that_were_fused_into_one_are_judged_together() -> None:
    floats = graph(
        ("a", "Conv", "x w", "ya"), ("b", "Conv", "x v", "yb"), ("add", "Add", "ya yb", "s"), ("relu", "Relu", "s", "y")
    )
    before = KernelTimes({"a": 1.0, "relu": 2.0}, frozenset())
    after = KernelTimes({"a": 1.0, "b": 1.0, "add": 1.0}, frozenset({"a", "b"}))
    assert list(regions(floats, ["a", "b"], before, after)) == [frozenset({"a", "b", "add", "relu"})]
