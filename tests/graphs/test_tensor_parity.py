"""Real breakage in real graphs, and whether it is found where it is."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets_for_graphs import ConvNet, Perceptron, export_conv_net, export_perceptron, trained
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from torch import Tensor, nn

from mlctl.errors import DataError
from mlctl.graphs.export import export
from mlctl.graphs.saving import load_graph, save_graph
from mlctl.graphs.tensor_parity import FLOAT32_DECIBELS, ROWS_AT_ONCE, TensorParity, tensor_parity
from mlctl.graphs.torch_tracing import TracedNetwork
from mlctl.graphs.tracing import Framework, Traced, TracedGraph, TracedTensor

TOLERANCE = 1e-4
ROUND_OFF = 1e-5
"""Far above what float32 leaves in nets of a dozen operators, and far below every breakage here."""

IMAGES = np.random.default_rng(0).integers(0, 17, (8, 1, 8, 8), dtype=np.uint8)
ROWS = np.random.default_rng(1).standard_normal((9, 6), dtype=np.float32)


@pytest.fixture(scope="module")
def conv_net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_conv_net(tmp_path_factory.mktemp("conv")).path


@pytest.fixture(scope="module")
def traced_conv_net() -> TracedNetwork:
    return TracedNetwork(trained(ConvNet()), (torch.zeros(2, 1, 8, 8, dtype=torch.uint8),))


def changed(path: Path, into: Path, change: Callable[[onnx.ModelProto], None]) -> TracedGraph:
    proto = load_graph(path)
    change(proto)
    return TracedGraph(save_graph(proto, into), threads=1)


def compared(a: Traced, b: Traced, rows: npt.NDArray[Any] = IMAGES, tolerance: float = TOLERANCE) -> TensorParity:
    return tensor_parity(a, b, (rows,), tolerance=tolerance)


def test_every_tensor_of_a_graph_is_seen_as_torch_computes_it(conv_net: Path) -> None:
    """A hook on every layer is the independent reference."""
    net = trained(ConvNet())
    assert isinstance(net, ConvNet)
    seen: list[Tensor] = []
    for layer in (net.body[1], net.body[2], net.body[3], net.body[10]):
        layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        answers = net(torch.from_numpy(IMAGES))
    found = TracedGraph(conv_net, threads=1).run((IMAGES,))
    for name, expected in zip(
        ("getitem", "max_pool2d", "relu", "linear", "probabilities"), [*seen, answers], strict=True
    ):
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_network_and_its_export_agree_in_every_tensor(conv_net: Path, traced_conv_net: TracedNetwork) -> None:
    graph = TracedGraph(conv_net, threads=1)
    found = compared(traced_conv_net, graph)
    assert [each.name for each in found.tensors] == [each.name for each in graph.tensors]
    assert found.unmatched == 0
    assert found.first is None
    assert found.is_within_tolerance
    assert found.worst < ROUND_OFF
    assert found.optimized_a is None
    assert found.optimized_b is not None
    assert found.optimized_b < ROUND_OFF
    assert [each.name for each in found.outputs] == ["probabilities"]
    modules = {each.name: each.module for each in found.tensors}
    assert (modules["getitem"], modules["relu"], modules["linear"]) == ("body.1", "body.3", "body.10")


def test_the_order_of_the_two_changes_no_difference(conv_net: Path, traced_conv_net: TracedNetwork) -> None:
    graph = TracedGraph(conv_net, threads=1)
    forth, back = compared(traced_conv_net, graph), compared(graph, traced_conv_net)
    assert [each.max_absolute for each in back.tensors] == [each.max_absolute for each in forth.tensors]
    # The exporter's own names: a buffer is named `mean`, so that the value of the call `mean` had to give way.
    assert [(x.name, y.name) for x, y in zip(forth.tensors, back.tensors, strict=True) if x.name != y.name] == [
        ("mean_1", "mean"),
        ("probabilities", "softmax"),
    ]


def test_a_perceptron_agrees_where_one_call_became_many_nodes(tmp_path: Path) -> None:
    graph = TracedGraph(export_perceptron(tmp_path).path, threads=1)
    found = compared(TracedNetwork(trained(Perceptron()), (torch.zeros(3, 6),)), graph, ROWS)
    assert found.is_within_tolerance
    assert found.worst < ROUND_OFF
    names = [each.name for each in found.tensors]
    assert names == ["linear", "gelu", "linear_1", "squeeze", "mul_6", "prediction"]
    assert found.unmatched == len(graph.tensors) - len(names) > 0


def test_a_changed_weight_is_named_with_its_node_and_module(conv_net: Path, tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        [weight] = [each for each in proto.graph.initializer if each.name == "body.4.weight"]
        values = onnx.numpy_helper.to_array(weight).copy()
        values[3, 2, 1, 1] += 0.5
        weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    found = compared(TracedGraph(conv_net, threads=1), changed(conv_net, tmp_path, change))
    assert found.first is not None
    assert (found.first.name, found.first.operator, found.first.module) == ("getitem_3", "Conv", "body.5")
    assert found.first.node.startswith("node_Conv")
    assert "body.4.weight" in found.first.weights
    assert found.costliest == found.first
    [answers] = found.outputs
    assert answers.max_difference > 0
    assert not found.is_within_tolerance


def test_a_changed_weight_of_a_network_is_found_against_its_export(conv_net: Path) -> None:
    net = trained(ConvNet())
    with torch.no_grad():
        net.state_dict()["body.10.bias"][2] += 0.01
    traced = TracedNetwork(net, (torch.zeros(2, 1, 8, 8, dtype=torch.uint8),))
    first = compared(traced, TracedGraph(conv_net, threads=1)).first
    assert first is not None
    assert (first.name, first.module) == ("linear", "body.10")
    assert first.max_absolute == pytest.approx(0.01, abs=1e-5)
    backwards = compared(TracedGraph(conv_net, threads=1), traced).first
    assert backwards is not None
    assert backwards.weights == ("body.10.weight", "body.10.bias")


def test_an_inserted_operator_shows_in_the_first_tensor_after_it(conv_net: Path, tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        at = next(number for number, node in enumerate(proto.graph.node) if "relu_1" in node.input)
        proto.graph.node[at].input[0] = "inserted"
        proto.graph.node.insert(at, onnx.helper.make_node("Floor", ["relu_1"], ["inserted"], name="wrong"))

    found = compared(TracedGraph(conv_net, threads=1), changed(conv_net, tmp_path, change))
    assert found.unmatched == 1
    assert found.first is not None
    assert (found.first.name, found.first.module) == ("mean_1", "body.7")


def test_a_tensor_of_another_shape_differs_infinitely(conv_net: Path, tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        [pool] = [node for node in proto.graph.node if node.op_type == "MaxPool"]
        [strides] = [each for each in pool.attribute if each.name == "strides"]
        strides.ints[:] = [1, 1]
        del proto.graph.value_info[:]

    first = compared(TracedGraph(conv_net, threads=1), changed(conv_net, tmp_path, change)).first
    assert first is not None
    assert first.name == "max_pool2d"
    assert (first.max_difference, first.signal_to_noise) == (math.inf, -math.inf)


def test_numbers_that_are_not_finite_are_found(conv_net: Path, tmp_path: Path) -> None:
    def change(proto: onnx.ModelProto) -> None:
        [bias] = [each for each in proto.graph.initializer if each.name == "body.10.bias"]
        bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, np.float32), bias.name))

    first = compared(TracedGraph(conv_net, threads=1), changed(conv_net, tmp_path, change)).first
    assert first is not None
    assert (first.name, first.max_absolute, first.signal_to_noise) == ("linear", math.inf, -math.inf)


def test_what_onnx_runtime_rewrites_is_told_from_what_is_written(conv_net: Path) -> None:
    """The second form is one whose optimized answers are off, as a wrong fusion would leave them."""

    class WronglyFused(TracedGraph):
        def optimized(self, rows: tuple[npt.NDArray[Any], ...]) -> tuple[npt.NDArray[Any], ...]:
            return tuple(each + np.float32(0.25) for each in super().optimized(rows))

    found = compared(TracedGraph(conv_net, threads=1), WronglyFused(conv_net, threads=1))
    assert found.first is None
    assert found.optimized_b == pytest.approx(0.25, abs=1e-6)
    assert found.optimized_a is not None
    assert found.optimized_a < ROUND_OFF
    assert not found.is_within_tolerance


def test_a_graph_that_onnx_runtime_fused_is_compared_where_it_still_has_the_tensor(
    conv_net: Path, tmp_path: Path, traced_conv_net: TracedNetwork
) -> None:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    # It warns that what it wrote fits machines like this one, which is what is wanted.
    options.log_severity_level = 4
    onnxruntime.InferenceSession(conv_net, options, providers=["CPUExecutionProvider"])
    found = compared(traced_conv_net, TracedGraph(tmp_path / "fused.onnx", threads=1))
    assert found.is_within_tolerance
    assert "FusedConv" in {each.operator for each in found.tensors}
    # The fused node lost its note; its module is known from the network.
    assert {each.name: each.module for each in found.tensors}["relu_1"] == "body.6"


class Images(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        self._left = iter(np.split(IMAGES, 4))

    def get_next(self) -> Mapping[str, npt.NDArray[Any]] | None:
        rows = next(self._left, None)
        return None if rows is None else {"image": rows}


@pytest.fixture(scope="module")
def quantized(conv_net: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    monkeypatch_module.chdir(folder)
    path = folder / "model.onnx"
    quantize_static(
        conv_net, path, Images(), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv", "Gemm"],
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def monkeypatch_module() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def test_a_quantized_graph_says_what_every_node_and_every_rounding_costs(conv_net: Path, quantized: Path) -> None:
    floats, integers = TracedGraph(conv_net, threads=1), TracedGraph(quantized, threads=1)
    found = compared(floats, integers)
    tensors = {each.name: each for each in found.tensors}
    # The scaled image is computed as before; what is lost begins with its rounding, and shows after the convolution.
    assert tensors["sub_2"].signal_to_noise == math.inf
    assert tensors["sub_2"].rounding is not None
    assert 20 < tensors["sub_2"].rounding < 80  # eight bits give about 50 dB
    assert found.first is not None
    assert (found.first.operator, found.first.module) == ("Conv", "body.1")
    assert found.first.loss == pytest.approx(FLOAT32_DECIBELS - found.first.signal_to_noise)
    assert tensors["max_pool2d"].loss < found.first.loss

    # The same ratios, by NumPy over all rows at once.
    a, b = floats.run((IMAGES,)), integers.run((IMAGES,))
    for name in ("relu_1", "probabilities"):
        noise = np.square(a[name].astype(np.float64) - b[name]).sum()
        expected = 10 * np.log10(np.square(a[name].astype(np.float64)).sum() / noise)
        assert tensors[name].signal_to_noise == pytest.approx(expected, abs=1e-3)


class Tied(nn.Module):
    """A weight that two calls read, a buffer that no file holds, and two inputs."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 6)
        self.register_buffer("shift", torch.arange(6.0), persistent=False)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        answers: Tensor = torch.tanh(self.layer(self.layer(left) + self.shift)) * right.float()
        return answers


def test_shared_weights_loose_buffers_and_several_inputs(tmp_path: Path) -> None:
    net, example = trained(Tied()), (torch.zeros(2, 6), torch.zeros(2, 1, dtype=torch.uint8))
    exported = export(
        net, example=example, input_names=("left", "right"), output_name="answers", opset=20, metadata={}, into=tmp_path
    )
    rows = (ROWS, np.arange(9, dtype=np.uint8).reshape(9, 1))
    found = tensor_parity(TracedNetwork(net, example), TracedGraph(exported.path, threads=1), rows, tolerance=TOLERANCE)
    assert found.is_within_tolerance
    assert {each.module for each in found.tensors} >= {"", "layer"}
    assert [each.name for each in found.tensors][-1] == "answers"


@dataclass(frozen=True)
class Spoilt:
    """Gives back its rows, each with its own error."""

    errors: npt.NDArray[np.float64]
    framework: Framework = "torch"
    tensors: tuple[TracedTensor, ...] = (TracedTensor("rows", "rows", "rows", "", "rows", (), ()),)
    outputs: tuple[str, ...] = ("rows",)

    def run(self, rows: tuple[npt.NDArray[Any], ...]) -> Mapping[str, npt.NDArray[Any]]:
        return {"rows": rows[0][:, 1] + self.errors[rows[0][:, 0].astype(int)]}

    def optimized(self, rows: tuple[npt.NDArray[Any], ...]) -> None:
        assert len(rows[0]) <= ROWS_AT_ONCE


@given(
    values=st.lists(st.floats(1, 1000), min_size=1, max_size=3 * ROWS_AT_ONCE),
    seed=st.integers(0, 99),
)
def test_slices_of_rows_come_to_what_all_rows_come_to_at_once(values: list[float], seed: int) -> None:
    errors = np.random.default_rng(seed).normal(0, 0.1, len(values))
    rows = np.stack([np.arange(len(values)), np.array(values)], axis=1)
    [found] = compared(Spoilt(np.zeros(len(values))), Spoilt(errors), rows).tensors
    # Rounding of values up to 1,000 in float64 leaves 1e-13 of an error of 0.1.
    assert found.max_absolute == pytest.approx(np.abs(errors).max(), rel=1e-9, abs=1e-12)
    assert found.max_relative == pytest.approx((np.abs(errors) / values).max(), rel=1e-9, abs=1e-12)
    expected = 10 * np.log10(np.square(values).sum() / np.square(errors).sum())
    assert found.signal_to_noise == pytest.approx(expected, abs=1e-6)


def test_nothing_to_compare_is_refused(conv_net: Path, tmp_path: Path) -> None:
    graph = TracedGraph(conv_net, threads=1)
    with pytest.raises(DataError, match="there are no rows to compare"):
        compared(graph, graph, IMAGES[:0])
    with pytest.raises(DataError, match="the two share no tensor"):
        compared(Spoilt(np.zeros(1), tensors=(), outputs=()), graph)


def test_a_graph_with_its_weights_beside_it_is_traced_too(conv_net: Path, tmp_path: Path) -> None:
    beside = save_graph(load_graph(conv_net), tmp_path, external_above=0)
    assert (tmp_path / "model.onnx.data").is_file()
    assert compared(TracedGraph(conv_net, threads=1), TracedGraph(beside, threads=1)).worst < ROUND_OFF
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
