"""Graphs in float16."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from float_graphs import Known, encoder, made, normal, operators, perceptron, picture, recurrent
from onnx import helper, numpy_helper

from mlctl.compression.quantization.element_types import element_types
from mlctl.compression.quantization.half import HalfQuantizer
from mlctl.errors import StepFailed
from mlctl.runtime.session import OnnxSession

X = {"x": (onnx.TensorProto.FLOAT, ["batch", 6])}
FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)


def answered(model: onnx.ModelProto, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return Known(model, (rows,)).answers()


@pytest.mark.parametrize("net", [encoder, perceptron, recurrent, picture])
def test_a_narrowed_network_answers_alike(net: Callable[[], Known]) -> None:
    known = net()
    written = HalfQuantizer(known.model).quantized()
    onnx.checker.check_model(written, full_check=True)
    # float16 has 11 bits: half a unit is 2.4e-4 of a value around 1; the layers add up a few of them.
    np.testing.assert_allclose(known.answers(written), known.answers(), atol=3e-3)
    assert {each.data_type for each in written.graph.initializer if each.data_type in FLOATS} == {
        onnx.TensorProto.FLOAT16
    }
    ports = [OnnxSession(each.SerializeToString(), threads=1) for each in (known.model, written)]
    assert ports[0].inputs == ports[1].inputs
    assert ports[0].outputs == ports[1].outputs


@pytest.mark.parametrize("net", [perceptron, recurrent, picture])
def test_any_node_may_stay_float(net: Callable[[], Known]) -> None:
    known = net()
    quantizer = HalfQuantizer(known.model)
    every = frozenset(quantizer.nodes)
    for node in quantizer.nodes:
        for kept in (frozenset({node}), every - {node}):
            np.testing.assert_allclose(known.answers(quantizer.quantized(kept)), known.answers(), atol=3e-3)
    np.testing.assert_array_equal(known.answers(quantizer.quantized(every)), known.answers())


def test_a_transposed_factor_stays_float() -> None:
    # Half of it alone, ONNX Runtime 1.32 ends the process while it loads the graph.
    known = encoder()
    quantizer = HalfQuantizer(known.model)
    every = frozenset(quantizer.nodes)
    assert "node_transpose" not in every
    np.testing.assert_allclose(
        known.answers(quantizer.quantized(every - {"node_MatMul_3"})), known.answers(), atol=3e-3
    )


def test_a_constant_beyond_the_range_stays_float_and_its_answer_is_clipped() -> None:
    lowest = np.array(np.finfo(np.float32).min)
    nodes = [
        helper.make_node("Mul", ["x", "lowest"], ["masked"], "mask"),
        helper.make_node("Add", ["masked", "w"], ["y"], "add"),
    ]
    model = made(nodes, X, {"lowest": lowest, "w": np.zeros(6, np.float32)})
    quantizer = HalfQuantizer(model)
    assert (quantizer.nodes, quantizer.out_of_range) == (("add",), ("mask",))
    rows = np.array([[0, 1, 0, 0, 1, 0]], np.float32)
    assert answered(quantizer.quantized(), rows).tolist() == [[0, -65504, 0, 0, -65504, 0]]


def test_infinite_constants_stay_infinite() -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"], "add")]
    model = made(nodes, X, {"w": np.array([-np.inf, 0, 0, 0, 0, np.inf], np.float32)})
    assert answered(HalfQuantizer(model).quantized(), np.zeros((1, 6), np.float32)).tolist() == [
        [-np.inf, 0, 0, 0, 0, np.inf]
    ]


def test_a_small_divisor_does_not_become_zero() -> None:
    nodes = [helper.make_node("Add", ["x", "epsilon"], ["a"], "add"), helper.make_node("Div", ["x", "a"], ["y"], "div")]
    model = made(nodes, X, {"epsilon": np.array(1e-12, np.float32)})
    assert answered(HalfQuantizer(model).quantized(), np.zeros((1, 6), np.float32)).tolist() == [[0.0] * 6]


def test_an_output_that_is_read_inside_too() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "layer"), helper.make_node("Relu", ["y"], ["z"], "relu")]
    model = made(nodes, X, {"w": normal(6, 4)})
    model.graph.output.append(helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None))
    session = OnnxSession(HalfQuantizer(model).quantized().SerializeToString(), threads=1)
    y, z = session.all((normal(3, 6),))
    assert y.dtype == z.dtype == np.float32
    np.testing.assert_array_equal(np.maximum(y, 0), z)


def test_what_has_no_float16_is_left_in_float32() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "layer"),
        helper.make_node("CumSum", ["a", "axis"], ["b"], "sum"),
        helper.make_node("Max", ["b", "low"], ["c"], "most"),
        helper.make_node("Mul", ["c", "low"], ["y"], "scale"),
    ]
    model = made(nodes, X, {"w": normal(6, 4), "axis": np.array(1), "low": np.array(0.5, np.float32)})
    quantizer = HalfQuantizer(model)
    written = quantizer.quantized()
    assert quantizer.nodes == ("layer", "scale")
    # The constant that both a narrow node and a wide one read is there in both precisions.
    stored = {each.name: numpy_helper.to_array(each).dtype.name for each in written.graph.initializer}
    assert stored == {"axis": "int64", "low": "float32", "w_half": "float16", "low_half": "float16"}
    np.testing.assert_allclose(answered(written, normal(3, 6)), answered(model, normal(3, 6)), atol=1e-2)


def test_branches_keep_reading_float32() -> None:
    body = helper.make_graph(
        [helper.make_node("Neg", ["a"], ["n"], "neg")], "then", [], [helper.make_tensor_value_info("n", 1, None)]
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["a"], ["p"], "abs")], "else", [], [helper.make_tensor_value_info("p", 1, None)]
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "layer"),
        helper.make_node("If", ["yes"], ["y"], "if", then_branch=body, else_branch=other),
    ]
    model = made(nodes, X, {"w": normal(6, 4), "yes": np.array(True)})
    written = HalfQuantizer(model).quantized()
    np.testing.assert_allclose(answered(written, normal(3, 6)), answered(model, normal(3, 6)), atol=1e-2)


def test_nothing_to_narrow_is_an_error() -> None:
    model = made([helper.make_node("CumSum", ["x", "axis"], ["y"], "sum")], X, {"axis": np.array(1)})
    with pytest.raises(StepFailed, match="no node of this graph can compute in float16"):
        HalfQuantizer(model)


@pytest.mark.parametrize("net", [encoder, perceptron, recurrent, picture])
def test_element_types_are_those_that_onnx_infers(net: Callable[[], Known]) -> None:
    model = onnx.ModelProto()
    model.CopyFrom(net().model)
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model)
    found = element_types(model)
    for each in inferred.graph.value_info:
        assert found[each.name] == each.type.tensor_type.elem_type
    assert "Cast" not in operators(model) or onnx.TensorProto.FLOAT in found.values()
