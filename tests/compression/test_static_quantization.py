"""What a static graph is made of, number by number, and that it answers as the float one does."""

import hashlib
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import pytest
from float_graphs import cosine, encoder
from onnx import helper, numpy_helper
from rows_for_calibration import conv_graph, images
from static_graphs import OPTIONS, ROW, Written, answers, decibels, made, quantizer_of, ranges_of

import mlctl
from mlctl.compression.quantization.scheme import IntegerType, Scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, attends, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import Range
from mlctl.runtime.answers import Arrays


@cache
def known() -> tuple[onnx.ModelProto, Arrays]:
    return conv_graph(), (images(64),)


SCHEMES: list[tuple[IntegerType, IntegerType]] = [
    ("uint8", "int8"),
    ("int8", "int8"),
    ("uint8", "uint8"),
    ("int8", "uint8"),
]


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize(("activations", "weights"), SCHEMES)
def test_scales_of_activations_are_the_ranges_over_the_levels(
    tmp_path: Path, activations: IntegerType, weights: IntegerType, is_symmetric: bool
) -> None:
    model, rows = known()
    options = StaticOptions(Scheme(activations, weights, False, ""), is_symmetric=is_symmetric)
    ranges = ranges_of(model, rows, options, tmp_path)
    written = StaticQuantizer(model, ranges, options).quantized()
    graph = Written(written)
    # 20 dB would be noise of a tenth; eight bits through three layers give more.
    assert decibels(model, written, rows) > 25
    smallest, largest = {"uint8": (0, 255), "int8": (-128, 127)}[activations]
    if activations == "int8" and is_symmetric:
        smallest = -127
    assert set(ranges) >= {"x", "kept", "pooled"}
    for name in ranges:
        scale, zero = graph.scale_and_zero(name)
        found = ranges["kept" if name == "first" else name]  # what the ReLU cuts off needs no levels
        expected = (np.float64(found.high) - found.low) / (largest - smallest)
        assert scale == pytest.approx(expected, rel=1e-6)
        assert zero.dtype == np.dtype(activations)
        assert int(zero) == pytest.approx(smallest - found.low / expected, abs=0.501)


@pytest.mark.parametrize("has_reduced_range", [False, True])
@pytest.mark.parametrize("is_per_channel", [False, True])
@pytest.mark.parametrize("weights", ["int8", "uint8"])
def test_weights_are_rounded_on_their_own_scales(
    tmp_path: Path, weights: IntegerType, is_per_channel: bool, has_reduced_range: bool
) -> None:
    model, rows = known()
    options = StaticOptions(Scheme("uint8", weights, has_reduced_range, ""), is_per_channel)
    graph = Written(quantizer_of(model, rows, tmp_path, options).quantized())
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    for name, channels in (("w1", 0), ("w2", 0), ("w3", 1)):
        scale, zero = graph.scale_and_zero(name)
        integers = graph.stored[f"{name}_quantized"]
        assert integers.dtype == np.dtype(weights)
        if has_reduced_range:
            assert int(integers.max()) - int(integers.min()) <= 128
        assert scale.shape == ((stored[name].shape[channels],) if is_per_channel else ())
        if is_per_channel:
            shape = [-1 if axis == channels else 1 for axis in range(integers.ndim)]
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        back = (integers.astype(np.float64) - zero) * scale
        # Half a step, and what float32 division adds.
        assert (np.abs(back - stored[name]) <= 0.502 * scale).all()


def test_a_bias_is_stored_in_the_steps_of_its_products(tmp_path: Path) -> None:
    model, rows = known()
    graph = Written(quantizer_of(model, rows, tmp_path).quantized())
    bias, expected = graph.stored["b1_quantized"], graph.scale_and_zero("x")[0] * graph.scale_and_zero("w1")[0]
    assert bias.dtype == np.int32
    stored = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    assert (np.abs(bias * expected - stored["b1"]) <= 0.51 * expected).all()


def test_every_computing_node_sits_between_integers(tmp_path: Path) -> None:
    model, rows = known()
    quantizer = quantizer_of(model, rows, tmp_path)
    assert quantizer.nodes == ("conv1", "conv2", "pool", "head")
    graph = Written(quantizer.quantized())
    assert all(graph.is_integer_node(node) for node in quantizer.nodes)
    rounded = {name for name, node in graph.readers if node.op_type == "QuantizeLinear"}
    assert "y" not in rounded  # logits keep their digits
    assert [port.name for port in quantizer.quantized().graph.output] == ["y"]


@pytest.mark.parametrize("kept", ["conv1", "conv2", "pool", "head"])
@pytest.mark.parametrize("is_excluded", [True, False])
def test_a_node_that_stays_in_float_is_left_alone(tmp_path: Path, kept: str, is_excluded: bool) -> None:
    model, rows = known()
    if is_excluded:
        excluded = frozenset({kept})
        tensors = tensors_to_calibrate(model, OPTIONS, excluded)
        ranges = ranges_of(model, rows, OPTIONS, tmp_path)
        quantizer = StaticQuantizer(model, {name: ranges[name] for name in tensors}, OPTIONS, excluded)
        written = quantizer.quantized()
    else:
        quantizer = quantizer_of(model, rows, tmp_path)
        written = quantizer.quantized(frozenset({kept}))
    graph = Written(written)
    before = next(node for node in model.graph.node if node.name == kept)
    stored = {each.name: each for each in model.graph.initializer}
    for name in before.input:
        if name in stored:
            assert name in graph.nodes[kept].input
            np.testing.assert_array_equal(graph.stored[name], numpy_helper.to_array(stored[name]))
    others = {"conv1", "conv2", "pool", "head"} - {kept}
    assert all(graph.is_integer_node(node) for node in others)
    assert decibels(model, written, rows) > 25
    with pytest.raises(AssertionError):
        np.testing.assert_array_equal(answers(model, rows), answers(written, rows))


def test_with_every_node_in_float_the_graph_is_the_float_graph(tmp_path: Path) -> None:
    model, rows = known()
    quantizer = quantizer_of(model, rows, tmp_path)
    written = quantizer.quantized(frozenset(quantizer.nodes))
    assert written == model
    assert written is not model


def test_the_float_graph_is_not_changed(tmp_path: Path) -> None:
    model, rows = known()
    before = model.SerializeToString(deterministic=True)
    quantizer = quantizer_of(model, rows, tmp_path)
    quantizer.quantized()
    quantizer.quantized(frozenset({"conv2"}))
    assert model.SerializeToString(deterministic=True) == before


def test_metadata_and_node_scopes_survive(tmp_path: Path) -> None:
    model = conv_graph()
    model.producer_name, model.producer_version = "mlctl", "1.2"
    model.metadata_props.add(key="mlctl.task", value="image-classification")
    for node in model.graph.node:
        node.metadata_props.add(key="namespace", value=f"body.{node.name}")
    written = quantizer_of(model, (images(8),), tmp_path).quantized()
    assert (written.producer_name, written.producer_version) == ("mlctl", "1.2")
    assert {each.key: each.value for each in written.metadata_props} == {"mlctl.task": "image-classification"}
    scopes = {node.name: node.metadata_props[0].value for node in written.graph.node if node.metadata_props}
    # The smallest byte is zero, and rounding to bytes does what the ReLU did.
    assert scopes == {node.name: f"body.{node.name}" for node in model.graph.node if node.name != "relu1"}
    assert [port.name for port in written.graph.input] == ["x"]
    assert written.graph.input == model.graph.input
    assert written.graph.output == model.graph.output


DIGEST = """
import hashlib, sys, tempfile
from pathlib import Path
from rows_for_calibration import conv_graph
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.static import *
from mlctl.compression.quantization.thresholds import Range
options = StaticOptions(Scheme("uint8", "int8", False, ""))
model = conv_graph()
ranges = {name: Range(-1, 2) for name in tensors_to_calibrate(model, options)}
written = StaticQuantizer(model, ranges, options).quantized()
print(hashlib.sha256(written.SerializeToString(deterministic=True)).hexdigest())
"""


def test_the_bytes_do_not_depend_on_the_process() -> None:
    roots = os.pathsep.join([str(Path(mlctl.__file__).parents[1]), str(Path(__file__).parent)])
    model = conv_graph()
    ranges = {name: Range(-1, 2) for name in tensors_to_calibrate(model, OPTIONS)}
    written = [StaticQuantizer(model, ranges, OPTIONS).quantized() for _ in range(2)]
    digests = {hashlib.sha256(each.SerializeToString(deterministic=True)).hexdigest() for each in written}
    for seed in ("1", "2"):
        environment = {**os.environ, "PYTHONPATH": roots, "PYTHONHASHSEED": seed}
        result = subprocess.run(
            [sys.executable, "-c", DIGEST], env=environment, capture_output=True, text=True, timeout=60, check=True
        )
        digests.add(result.stdout.strip())
    assert len(digests) == 1


def test_of_attention_only_multiplications_by_weights_become_integers(tmp_path: Path) -> None:
    net = encoder()
    quantizer = quantizer_of(net.model, net.rows, tmp_path)
    assert attends(net.model)
    written = quantizer.quantized()
    graph = Written(written)
    kinds = {graph.nodes[name].op_type for name in quantizer.nodes}
    assert kinds <= {"MatMul", "Gemm"}
    assert len(quantizer.nodes) == 5  # what attention reads, its output, two of the feed-forward part, the head
    others = [node for node in net.model.graph.node if node.name not in quantizer.nodes]
    assert not any(graph.is_dequantized(name) for node in others for name in graph.nodes[node.name].input)
    assert cosine(net.answers(), net.answers(written)) >= 0.98


def test_without_anything_to_quantize_there_are_no_nodes_and_no_tensors() -> None:
    model = made([helper.make_node("Relu", ["x"], ["y"], "relu")], ROW, {})
    assert tensors_to_calibrate(model, OPTIONS) == ()
    assert StaticQuantizer(model, {}, OPTIONS).nodes == ()
    assert StaticQuantizer(model, {}, OPTIONS).quantized() == model


def test_nothing_is_written_beside_the_graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = known()
    ranges = ranges_of(model, rows, OPTIONS, tmp_path)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "here"))
    StaticQuantizer(model, ranges, OPTIONS).quantized()
    tensors_to_calibrate(model, OPTIONS)
    assert list((tmp_path / "here").iterdir()) == []


def test_a_node_of_its_own_is_attention_too() -> None:
    node = helper.make_node("Attention", ["query", "key", "value"], ["mixed"])
    assert attends(helper.make_model(helper.make_graph([node], "attention", [], [])))
    node = helper.make_node("Relu", ["query"], ["mixed"])
    assert not attends(helper.make_model(helper.make_graph([node], "none", [], [])))
