"""Weights in blocks: how they are rounded, and how ONNX Runtime reads them."""

from typing import get_args

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from float_graphs import Known, normal
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import helper
from onnxruntime.capi import _pybind_state as theirs

from mlctl.compression.quantization.blocks import Bits, BlockForm, Blocks, half_quadratic, packed, round_to_nearest
from mlctl.compression.quantization.gptq import compensated
from mlctl.compression.quantization.weight_only import WeightOnlyQuantizer

FORMS = [BlockForm(bits, 16, symmetric) for bits in get_args(Bits) for symmetric in (True, False)]
forms = st.sampled_from(FORMS)


@given(
    weight=arrays(
        np.float32,
        array_shapes(min_dims=2, max_dims=2, max_side=40),
        elements=st.floats(-(2.0**99), 2.0**99, width=32).filter(lambda each: each == 0 or abs(each) > 2.0**-99),
    ),
    form=forms,
)
def test_a_weight_moves_by_half_a_step_at_most(weight: npt.NDArray[np.float32], form: BlockForm) -> None:
    found = round_to_nearest(weight, form)
    rows, columns = weight.shape
    filled = np.zeros((columns, found.codes.shape[1] * form.block_size))
    filled[:, :rows] = weight.T
    values = filled.reshape(found.codes.shape)
    steps = found.scales.astype(np.float64)[..., None]
    back = steps * (found.codes.astype(np.float64) - found.zero_points[..., None])
    # Half a step, and what dividing by a float32 scale may add: 255 steps of 1.2e-7 of themselves.
    assert (np.abs(back - values) <= np.abs(steps) * (0.5 + 1e-4)).all()
    assert (back[values == 0] == 0).all()
    assert found.codes.max() <= form.levels


@pytest.mark.parametrize("form", FORMS)
def test_rounding_is_as_close_as_onnx_runtimes_own(form: BlockForm) -> None:
    weight = normal(48, 12)
    codes = np.zeros((12, 3, 16 * form.bits // 8), np.uint8)
    scales = np.zeros((12, 3), np.float32)
    zero_points = np.zeros((12, -(-3 * form.bits // 8)), np.uint8)
    quantize = theirs.quantize_matmul_4bits if form.bits == 4 else theirs.quantize_matmul_8bits
    quantize(codes, weight, scales, zero_points, 16, 12, 48, form.is_symmetric)
    found = round_to_nearest(weight, form)
    if not form.is_symmetric:
        # The same rule: the same scales and zero points. Ties of a rounding may fall the other way.
        np.testing.assert_allclose(found.scales, scales, rtol=1e-6)
        assert (packed(found, form)[0] == codes).mean() > 0.99
    else:
        # Theirs cuts the shorter side off by up to a whole step; ours widens the step by 7 % at most instead.
        assert (np.abs(found.scales) <= np.abs(scales) * (form.middle / (form.middle - 0.5) + 1e-6)).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rows", [32, 40])
def test_onnx_runtime_unpacks_the_weight_that_was_packed(form: BlockForm, rows: int) -> None:
    weight = normal(rows, 6)
    node = helper.make_node("MatMul", ["x", "w"], ["y"], "layer")
    graph = helper.make_graph(
        [node],
        "one",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", rows])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 6])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    known = Known(model, (np.eye(rows, dtype=np.float32),))
    answers = known.answers(WeightOnlyQuantizer(model, form).quantized())
    # Rows of the identity are exact in 8 bits, so that the answers are the weight itself, up to float32 products.
    np.testing.assert_allclose(answers, round_to_nearest(weight, form).weight(rows), atol=1e-5)


def error(found: Blocks, weight: npt.NDArray[np.float32], power: float) -> float:
    return float((np.abs(found.weight(len(weight)) - weight) ** power).mean())


def test_half_quadratic_rounding_has_the_smaller_error_in_its_own_norm() -> None:
    weight = np.random.default_rng(2).standard_t(4, (128, 64)).astype(np.float32)
    form = BlockForm(4, 32, is_symmetric=False)
    assert error(half_quadratic(weight, form), weight, 0.7) < 0.97 * error(round_to_nearest(weight, form), weight, 0.7)


def test_half_quadratic_rounding_keeps_a_block_of_zeros() -> None:
    form = BlockForm(4, 16, is_symmetric=False)
    assert (half_quadratic(np.zeros((16, 3), np.float32), form).weight(16) == 0).all()


@pytest.mark.parametrize("form", FORMS)
def test_compensation_pays_where_inputs_go_together(form: BlockForm) -> None:
    weight = normal(96, 24)
    inputs = normal(400, 12, seed=5) @ normal(12, 96, seed=6) + 0.1 * normal(400, 96, seed=7)
    moments = inputs.T.astype(np.float64) @ inputs / len(inputs)

    def missed(found: Blocks) -> float:
        return float(np.linalg.norm(inputs @ (found.weight(96) - weight)))

    # Inputs of 12 dimensions in 96: rounding has 84 directions in which an error costs next to nothing.
    assert missed(compensated(weight, moments, form)) < 0.6 * missed(round_to_nearest(weight, form))


@pytest.mark.parametrize("form", FORMS)
def test_compensation_is_plain_rounding_where_inputs_have_nothing_in_common(form: BlockForm) -> None:
    weight = normal(40, 6)
    found, plain = compensated(weight, np.eye(40), form), round_to_nearest(weight, form)
    np.testing.assert_array_equal(found.codes, plain.codes)
    np.testing.assert_array_equal(found.scales, plain.scales)
    np.testing.assert_array_equal(found.zero_points, plain.zero_points)


def test_compensation_without_any_activation_is_plain_rounding() -> None:
    weight, form = normal(32, 6), BlockForm(4, 16)
    np.testing.assert_array_equal(
        compensated(weight, np.zeros((32, 32)), form).codes, round_to_nearest(weight, form).codes
    )
