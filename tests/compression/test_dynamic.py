"""Integer weights, and ranges of activations that every call finds anew."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from float_graphs import Known, cosine, encoder, made, normal, operators, perceptron, picture, recurrent
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm, integer_weight
from mlctl.errors import StepFailed, Unsupported

KERNELS = ("MatMulInteger", "DynamicQuantizeLSTM", "QAttention")
FORM = WeightForm()
X = {"x": (onnx.TensorProto.FLOAT, ["batch", 6])}


def kernels(model: onnx.ModelProto) -> int:
    return sum(kind in KERNELS for kind in operators(model))


@pytest.mark.parametrize("form", [FORM, WeightForm("uint8"), WeightForm(is_per_channel=False)])
@pytest.mark.parametrize("net", [encoder, perceptron, recurrent])
def test_a_quantized_network_answers_alike(net: Callable[[], Known], form: WeightForm) -> None:
    known = net()
    quantizer = DynamicQuantizer(known.model, form)
    written = quantizer.quantized()
    onnx.checker.check_model(written, full_check=True)
    tables = sum(node.name == "node_embedding" for node in written.graph.node)
    assert kernels(written) == len(quantizer.nodes) - tables
    # 255 levels for weights and activations: noise of about a hundredth of each layer's answer.
    assert cosine(known.answers(), known.answers(written)) > 0.9995
    assert written.ByteSize() < known.model.ByteSize() * 0.8


def test_the_answers_are_those_of_onnx_runtimes_own_tool(tmp_path: Path) -> None:
    known = perceptron()
    onnx.save(known.model, tmp_path / "float.onnx")
    quantize_dynamic(tmp_path / "float.onnx", tmp_path / "theirs.onnx", per_channel=True, weight_type=QuantType.QInt8)
    ours = known.answers(DynamicQuantizer(known.model, FORM).quantized())
    theirs = known.answers(onnx.load(tmp_path / "theirs.onnx"))
    # The same integers and the same scales: what is left is the order of a few float32 operations.
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_onnx_runtime_fuses_what_is_written(tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    written = DynamicQuantizer(perceptron().model, FORM).quantized()
    onnxruntime.InferenceSession(written.SerializeToString(), options, providers=["CPUExecutionProvider"])
    fused = operators(onnx.load(tmp_path / "optimized.onnx"))
    assert fused == ["DynamicQuantizeMatMul", "Relu", "DynamicQuantizeMatMul", "Relu", "DynamicQuantizeMatMul"]


def test_nodes_that_are_kept_or_excluded_stay_float() -> None:
    known = perceptron()
    quantizer = DynamicQuantizer(known.model, FORM, frozenset({"node_linear"}))
    assert quantizer.nodes == ("node_linear_1", "node_linear_2")
    assert operators(quantizer.quantized(frozenset({"node_linear_2"}))).count("Gemm") == 2
    everything = quantizer.quantized(frozenset(quantizer.nodes))
    np.testing.assert_array_equal(known.answers(everything), known.answers())


def test_one_activation_and_one_weight_are_quantized_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["x", "w"], ["b"], "second"),
        helper.make_node("Add", ["a", "b"], ["y"], "sum"),
    ]
    known = Known(made(nodes, X, {"w": normal(6, 4)}), (normal(5, 6, seed=2),))
    written = DynamicQuantizer(known.model, FORM).quantized()
    assert operators(written).count("DynamicQuantizeLinear") == 1
    assert [each.name for each in written.graph.initializer] == ["w_quantized", "w_scale", "w_zero_point"]
    assert cosine(known.answers(), known.answers(written)) > 0.999


def test_an_embedding_that_is_also_the_head_becomes_two_tables_of_integers() -> None:
    nodes = [
        helper.make_node("Gather", ["words", "x"], ["word"], "look"),
        helper.make_node("Transpose", ["words"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["word", "turned"], ["y"], "head"),
    ]
    model = made(nodes, {"x": (onnx.TensorProto.INT64, ["batch"])}, {"words": normal(2048, 32)})
    known = Known(model, (np.arange(0, 2048, 64),))
    quantizer = DynamicQuantizer(model, FORM)
    written = quantizer.quantized()
    assert quantizer.nodes == ("look", "head")
    assert "Transpose" not in operators(written)
    assert {each.data_type for each in written.graph.initializer if len(each.dims) == 2} == {onnx.TensorProto.INT8}
    assert cosine(known.answers(), known.answers(written)) > 0.999


def test_a_small_embedding_is_left_alone() -> None:
    nodes = [
        helper.make_node("Gather", ["words", "x"], ["word"], "look"),
        helper.make_node("MatMul", ["word", "w"], ["y"], "head"),
    ]
    stored = {"words": normal(100, 6), "w": normal(6, 4)}
    model = made(nodes, {"x": (onnx.TensorProto.INT64, ["batch"])}, stored)
    assert DynamicQuantizer(model, FORM).nodes == ("head",)


def test_onnx_runtimes_attention_becomes_integers() -> None:
    attention = helper.make_node("Attention", ["x", "w", "b"], ["y"], "attend", domain="com.microsoft", num_heads=2)
    model = made([attention], {"x": (onnx.TensorProto.FLOAT, ["batch", 5, 8])}, {"w": normal(8, 24), "b": normal(24)})
    known = Known(model, (normal(4, 5, 8, seed=4),))
    written = DynamicQuantizer(model, FORM).quantized()
    assert operators(written) == ["DynamicQuantizeLinear", "QAttention"]
    assert cosine(known.answers(), known.answers(written)) > 0.999


def test_nothing_to_quantize_is_an_error() -> None:
    with pytest.raises(StepFailed, match="no node of this graph can be quantized dynamically"):
        DynamicQuantizer(perceptron().model, FORM, frozenset(node.name for node in perceptron().model.graph.node))


def test_convolutions_are_left_alone() -> None:
    assert DynamicQuantizer(picture().model, FORM).nodes == ("node_linear",)


def test_an_old_opset_is_refused() -> None:
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    with pytest.raises(Unsupported, match="needs opset 11; this graph has 10"):
        DynamicQuantizer(made([node], X, {"w": normal(6, 4)}, opset=10), FORM)


def test_no_file_is_written_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = perceptron()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def refused(*given: object, **named: object) -> str:
        raise AssertionError("a temporary folder was asked for")

    monkeypatch.setattr(tempfile, "mkdtemp", refused)
    DynamicQuantizer(known.model, FORM).quantized()
    assert list(tmp_path.iterdir()) == []


@given(
    weight=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=9),
        elements=st.floats(-(2.0**99), 2.0**99, width=32).filter(lambda each: each == 0 or abs(each) > 2.0**-99),
    ),
    reduced=st.booleans(),
    per_channel=st.booleans(),
)
def test_a_weight_moves_by_half_a_step_at_most(
    weight: npt.NDArray[np.float32], reduced: bool, per_channel: bool
) -> None:
    found = integer_weight(weight, WeightForm("int8", per_channel, reduced))
    back = found.scales.astype(np.float64) * found.values
    # Half a step, and what dividing in float32 may add to it: 127 steps of 6e-8 of themselves.
    assert (np.abs(back - weight) <= found.scales * (0.5 + 1e-4)).all()
    assert (back[weight == 0] == 0).all()
    assert np.abs(found.values).max() <= (63 if reduced else 127)
    unsigned = integer_weight(weight, WeightForm("uint8", per_channel, reduced))
    np.testing.assert_array_equal(unsigned.values.astype(int) - 128, found.values)
    np.testing.assert_array_equal(unsigned.scales, found.scales)
