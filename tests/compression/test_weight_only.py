"""Linear layers whose weights alone become integers."""

import logging
from collections.abc import Callable
from typing import get_args

import numpy as np
import onnx
import pytest
from float_graphs import Known, cosine, encoder, made, normal, operators, perceptron, picture
from onnx import helper

from mlctl.compression.quantization.blocks import Bits, BlockForm
from mlctl.compression.quantization.gptq import second_moments
from mlctl.compression.quantization.weight_only import Algorithm, WeightOnlyQuantizer
from mlctl.errors import StepFailed, UsageError

SUPPORTED = [
    (algorithm, BlockForm(bits, 16, symmetric))
    for algorithm in get_args(Algorithm)
    for bits in get_args(Bits)
    for symmetric in (True, False)
    if algorithm != "hqq" or (bits == 4 and not symmetric)
]


def quantizer_of(known: Known, algorithm: Algorithm, form: BlockForm) -> WeightOnlyQuantizer:
    return WeightOnlyQuantizer(known.model, form, algorithm=algorithm, rows=[known.rows])


@pytest.mark.parametrize(("algorithm", "form"), SUPPORTED)
@pytest.mark.parametrize("net", [encoder, perceptron])
def test_a_quantized_network_answers_alike(net: Callable[[], Known], algorithm: Algorithm, form: BlockForm) -> None:
    known = net()
    quantizer = quantizer_of(known, algorithm, form)
    written = quantizer.quantized()
    onnx.checker.check_model(written)
    assert operators(written).count("MatMulNBits") == len(quantizer.nodes)
    assert not {"Gemm"} & set(operators(written))
    # 15 steps to a block of 16 weights are a noise of about 7 % in each layer, 255 steps one of 0.4 %.
    assert cosine(known.answers(), known.answers(written)) > (0.995 if form.bits == 4 else 0.9998)


def test_nodes_that_are_kept_or_excluded_stay_float() -> None:
    known = perceptron()
    quantizer = WeightOnlyQuantizer(known.model, BlockForm(), frozenset({"node_linear"}))
    assert quantizer.nodes == ("node_linear_1", "node_linear_2")
    assert operators(quantizer.quantized(frozenset({"node_linear_1"}))) == [
        "Gemm",
        "Relu",
        "Gemm",
        "Relu",
        "MatMulNBits",
        "Add",
    ]
    np.testing.assert_array_equal(known.answers(quantizer.quantized(frozenset(quantizer.nodes))), known.answers())


def test_a_weight_that_two_layers_share_is_stored_once() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["y"], "second"),
    ]
    model = made(nodes, {"x": (onnx.TensorProto.FLOAT, ["batch", 32])}, {"w": normal(32, 32)})
    written = WeightOnlyQuantizer(model, BlockForm()).quantized()
    assert [each.name for each in written.graph.initializer] == ["w_codes", "w_scales"]
    known = Known(model, (normal(5, 32, seed=2),))
    assert cosine(known.answers(), known.answers(written)) > 0.98


def test_compensation_answers_closer_than_plain_rounding() -> None:
    known, form = perceptron(), BlockForm(4, 32)
    expected = known.answers()
    plain = known.answers(quantizer_of(known, "round-to-nearest", form).quantized())
    compensated = known.answers(quantizer_of(known, "gptq", form).quantized())
    assert np.linalg.norm(compensated - expected) < 0.9 * np.linalg.norm(plain - expected)


def test_second_moments_are_those_of_the_activations() -> None:
    known = perceptron()
    rows = known.rows[0]
    halves = [(rows[:15],), (rows[15:],)]
    (found,) = second_moments(known.model, {"x": 16, "relu": 32}, halves, threads=1)
    # Sums of 40 float32 products each, in one order or another.
    np.testing.assert_allclose(found["x"], rows.T @ rows / 40, atol=1e-5)
    assert found["relu"].shape == (32, 32)
    assert (found["relu"] >= 0).all()


@pytest.mark.parametrize("form", [BlockForm(4, 32, True), BlockForm(8, 32, False)])
def test_what_hqq_cannot_do_is_said(form: BlockForm) -> None:
    with pytest.raises(UsageError, match="for 4 bits alone") as refusal:
        WeightOnlyQuantizer(perceptron().model, form, algorithm="hqq")
    assert "round-to-nearest and gptq" in str(refusal.value)


def test_hqq_says_that_it_is_slow() -> None:
    assert "unpacks" in (quantizer_of(perceptron(), "hqq", BlockForm(4, 16, False)).known_slow or "")
    assert quantizer_of(perceptron(), "gptq", BlockForm()).known_slow is None


def test_gptq_needs_rows() -> None:
    with pytest.raises(UsageError, match="gptq needs rows"):
        WeightOnlyQuantizer(perceptron().model, BlockForm(), algorithm="gptq")


def test_nothing_to_quantize_is_an_error() -> None:
    with pytest.raises(StepFailed, match="weights alone quantized"):
        WeightOnlyQuantizer(picture().model, BlockForm(), frozenset({"node_linear"}))


def test_logging_is_left_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    before = (list(logging.root.handlers), logging.root.level)
    quantizer_of(perceptron(), "gptq", BlockForm()).quantized()
    assert (list(logging.root.handlers), logging.root.level) == before
    assert capfd.readouterr() == ("", "")
