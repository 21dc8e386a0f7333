"""Linear layers, in every form that exporters write."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from float_graphs import Known, encoder, made, normal, perceptron
from onnx import helper

from mlctl.compression.quantization.linear_layers import linear_layers, matrix
from mlctl.compression.quantization.rewriting import constants

X = {"x": (onnx.TensorProto.FLOAT, ["batch", 6])}
ROWS = normal(5, 6, seed=9)
WEIGHT, TURNED, BIAS = normal(6, 4), normal(4, 6), normal(4)
HELD = helper.make_node("Constant", [], ["w"], "held", value=onnx.numpy_helper.from_array(WEIGHT))

FORMS = {
    "a product": ([helper.make_node("MatMul", ["x", "w"], ["y"], "layer")], {"w": WEIGHT}),
    "a constant node": ([HELD, helper.make_node("MatMul", ["x", "w"], ["y"], "layer")], {}),
    "Gemm": ([helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer")], {"w": WEIGHT, "b": BIAS}),
    "Gemm without a bias": ([helper.make_node("Gemm", ["x", "w"], ["y"], "layer", transB=1)], {"w": TURNED}),
    "Gemm as torch writes it": (
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", transB=1)],
        {"w": TURNED, "b": BIAS},
    ),
    "a turned weight": (
        [
            helper.make_node("Transpose", ["w"], ["wt"], "turn", perm=[1, 0]),
            helper.make_node("MatMul", ["x", "wt"], ["y"], "layer"),
        ],
        {"w": TURNED},
    ),
    "a weight turned twice": (
        [
            helper.make_node("Transpose", ["w"], ["wt"], "turn"),
            helper.make_node("Gemm", ["x", "wt"], ["y"], "layer", transB=1),
        ],
        {"w": WEIGHT},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_layer_is_what_its_node_computes(form: str) -> None:
    nodes, stored = FORMS[form]
    known = Known(made(nodes, X, stored), (ROWS,))
    (layer,) = linear_layers(known.model)
    expected = ROWS @ matrix(layer, constants(known.model.graph)) + (stored["b"] if layer.bias else 0)
    assert (layer.node, layer.input, layer.output) == ("layer", "x", "y")
    # Six products of float32 numbers around 1, added in another order: some units of 6e-8.
    np.testing.assert_allclose(known.answers(), expected, atol=1e-5)


@pytest.mark.parametrize(
    "node",
    [
        helper.make_node("Gemm", ["x", "w"], ["y"], "layer", alpha=0.5),
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], "layer", beta=2.0),
        helper.make_node("MatMul", ["x", "wide"], ["y"], "layer"),
        helper.make_node("MatMul", ["x", "exact"], ["y"], "layer"),
        helper.make_node("MatMul", ["w", "x"], ["y"], "layer"),
    ],
)
def test_what_is_no_plain_layer_is_left_alone(node: onnx.NodeProto) -> None:
    stored: dict[str, npt.NDArray[Any]] = {
        "w": WEIGHT,
        "b": BIAS,
        "wide": normal(2, 6, 4),
        "exact": normal(6, 4).astype(np.float64),
    }
    assert linear_layers(made([node], X, stored)) == ()


def test_exported_networks_show_their_layers_in_order() -> None:
    assert [each.node for each in linear_layers(perceptron().model)] == [
        "node_linear",
        "node_linear_1",
        "node_linear_2",
    ]
    found = linear_layers(encoder().model)
    # Attention's own products multiply activations; in, out, two of the feed-forward part and the head are weights.
    assert len(found) == 5
