"""Rounding with gradients: the numbers of ONNX Runtime, and gradients that pass inside the range alone."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from onnx import TensorProto, helper, numpy_helper

from mlctl.graphs.torch_graph import TorchGraph
from mlctl.graphs.torch_rounding import constant_rounding, rounded_weight
from mlctl.runtime.session import OnnxSession


def pair(
    scale: npt.NDArray[np.float32], zero: npt.NDArray[Any], between: list[onnx.NodeProto], axis: int = 1
) -> onnx.ModelProto:
    """QuantizeLinear of `x`, `between` from `q` to `p`, and DequantizeLinear to `y`."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], axis=axis),
        *between,
        helper.make_node("DequantizeLinear", ["p" if between else "q", "s", "z"], ["y"], axis=axis),
    ]
    stored = [numpy_helper.from_array(scale, "s"), numpy_helper.from_array(zero, "z")]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in "xy")
    graph = helper.make_graph(nodes, "pair", [x], [y], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def both(model: onnx.ModelProto, values: npt.NDArray[np.float32]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    with torch.no_grad():
        found = TorchGraph(model)(torch.from_numpy(values)).numpy()
    return found, OnnxSession(model.SerializeToString(), threads=1)((values,))


@settings(max_examples=40)
@given(
    arrays(np.float32, (3, 5), elements=st.floats(-300, 300, width=32)),
    st.floats(2**-8, 2.0, width=32),
    st.integers(0, 255),
    st.booleans(),
)
def test_a_pair_rounds_as_onnx_runtime_does(
    values: npt.NDArray[np.float32], scale: float, middle: int, is_signed: bool
) -> None:
    """To the bit: a division, the nearest number with ties to even, and a product, each of float32."""
    zero = np.array(middle - 128, np.int8) if is_signed else np.array(middle, np.uint8)
    found, expected = both(pair(np.array(scale, np.float32), zero, []), values)
    np.testing.assert_array_equal(found, expected)


def test_ties_go_to_even() -> None:
    values = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 254.5, 300.0]], np.float32)
    found, expected = both(pair(np.array(1, np.float32), np.array(2, np.uint8), []), values)
    assert found.tolist() == expected.tolist() == [[0, 2, 2, 0, -2, 253, 253]]


def test_a_pair_can_have_one_scale_for_every_channel() -> None:
    values = np.random.default_rng(1).normal(size=(4, 3, 2)).astype(np.float32)
    scale, zero = np.array([0.1, 0.02, 0.5], np.float32), np.array([0, -100, 3], np.int8)
    found, expected = both(pair(scale, zero, []), values)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    leaf = torch.from_numpy(values).requires_grad_()
    TorchGraph(pair(scale, zero, []))(leaf).sum().backward()
    assert leaf.grad is not None
    lowest = ((-128 - zero.astype(np.float32)) * scale)[:, None]
    highest = ((127 - zero.astype(np.float32)) * scale)[:, None]
    is_inside = (values > lowest) & (values < highest)
    assert 0 < is_inside.mean() < 1
    np.testing.assert_array_equal(leaf.grad.numpy(), is_inside)


def test_integers_that_something_stands_between_are_computed_with() -> None:
    between = [helper.make_node("MaxPool", ["q"], ["p"], kernel_shape=[2, 2], strides=[2, 2])]
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    model = pair(np.array(0.02, np.float32), np.array(90, np.uint8), between)
    found, expected = both(model, values)
    np.testing.assert_array_equal(found, expected)
    leaf = torch.from_numpy(values).requires_grad_()
    TorchGraph(model)(leaf).sum().backward()
    assert leaf.grad is not None
    # The largest of four numbers is within -1.8 and 3.3 here, and each passes its gradient on.
    assert leaf.grad.sum() == expected.size


def test_what_lies_on_the_same_integers_is_not_rounded_twice() -> None:
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("MaxPool", ["d"], ["m"], kernel_shape=[2, 2]),
        helper.make_node("QuantizeLinear", ["m", "s", "z"], ["r"]),
        helper.make_node("DequantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    model = pair(np.array(0.02, np.float32), np.array(90, np.uint8), [])
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    values = np.random.default_rng(1).normal(size=(2, 3, 4, 4)).astype(np.float32)
    found, expected = both(model, values)
    np.testing.assert_array_equal(found, expected)
    leaf = torch.from_numpy(values).requires_grad_()
    output = TorchGraph(model)(leaf)
    names = []
    step = output.grad_fn
    while step is not None:
        names.append(step.name())
        step = step.next_functions[0][0] if step.next_functions else None
    assert sum("Rounded" in name for name in names) == 1


def test_gradients_pass_inside_the_range_alone() -> None:
    operation = constant_rounding(torch.tensor(0.5), torch.tensor(10, dtype=torch.uint8), 1)
    values = torch.tensor([-100.0, -5.1, -4.9, 0.2, 122.4, 122.6, 400.0], requires_grad=True)
    found = operation(values)
    assert isinstance(found, torch.Tensor)
    (3 * found).sum().backward()  # type: ignore[no-untyped-call]
    assert found.tolist() == [-5.0, -5.0, -5.0, 0.0, 122.5, 122.5, 122.5]
    assert values.grad is not None
    assert values.grad.tolist() == [0, 0, 3, 3, 3, 0, 0]


@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_weight_is_rounded_and_its_gradient_is_whole(axis: int | None) -> None:
    torch.manual_seed(1)
    weight = torch.randn(3, 4, requires_grad=True)
    scale = torch.tensor(0.1) if axis is None else torch.full((weight.shape[axis],), 0.1)
    zero = torch.full_like(scale, 7, dtype=torch.int32)
    found = rounded_weight(weight, scale, zero, (0, 15), axis)
    expected = torch.fake_quantize_per_tensor_affine(weight.detach(), 0.1, 7, 0, 15)
    torch.testing.assert_close(found.detach(), expected)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert torch.equal(weight.grad, torch.ones(3, 4))
