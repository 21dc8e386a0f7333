"""Quantization-aware training: a static graph whose weights move, and what is written back of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from float_graphs import normal
from onnx import helper, numpy_helper
from static_graphs import IMAGE, OPTIONS, ROW, answers, made, ranges_of
from torch import Tensor, nn

from mlctl.compression.quantization.aware import aware_model, distance
from mlctl.compression.quantization.aware_weights import AwareWeights
from mlctl.compression.quantization.scheme import IntegerType, Scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer
from mlctl.compression.quantization.tied_heads import store_turned
from mlctl.errors import StepFailed
from mlctl.graphs.torch_graph import TorchGraph
from mlctl.tasks.squared_error import OwnUnit


def images() -> onnx.ModelProto:
    """Convolutions, a shortcut, pooling and a linear head: [B, 4, 8, 8] to probabilities [B, 5]."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v"], ["c"], "two", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c", "x"], ["sum"], "sum"),
        helper.make_node("MaxPool", ["sum"], ["m"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("GlobalAveragePool", ["m"], ["g"], "mean"),
        helper.make_node("Flatten", ["g"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "h", "d"], ["logits"], "head", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], "finish", axis=1),
    ]
    stored: dict[str, npt.NDArray[Any]] = {
        "w": normal(4, 4, 3, 3) / 6,
        "b": normal(4, seed=5) / 2,
        "v": normal(4, 4, 3, 3, seed=2) / 6,
        "h": normal(5, 4, seed=3),
        "d": normal(5, seed=4) / 2,
    }
    return made(nodes, IMAGE, stored)


def tokens() -> onnx.ModelProto:
    """A table, a normalization, a bias that is added, and a head that shares the table: places [B, 6] to [B, 6, 9]."""
    nodes = [
        helper.make_node("Cast", ["x"], ["places"], "whole", to=onnx.TensorProto.INT64),
        helper.make_node("Gather", ["table", "places"], ["rows"], "look"),
        helper.make_node("LayerNormalization", ["rows", "scale", "shift"], ["n"], "normalize"),
        helper.make_node("MatMul", ["n", "weight"], ["p"], "dense"),
        helper.make_node("Add", ["p", "bias"], ["q"], "added"),
        helper.make_node("Transpose", ["table"], ["turned"], "turn", perm=[1, 0]),
        helper.make_node("MatMul", ["q", "turned"], ["y"], "head"),
    ]
    stored = {
        "table": normal(9, 8),
        "scale": 1 + normal(8, seed=1),
        "shift": normal(8, seed=2),
        "weight": normal(8, 8, seed=3),
        "bias": normal(8, seed=4),
    }
    return made(nodes, ROW, stored)


class Known:
    """A float graph, its static form, the weights that learn, and rows."""

    def __init__(self, model: onnx.ModelProto, rows: npt.NDArray[Any], folder: Path, options: StaticOptions) -> None:
        self.rows, self.options = rows, options
        self.ranges = ranges_of(model, (rows,), options, folder)
        self.original = onnx.ModelProto.FromString(model.SerializeToString())
        store_turned(self.original)
        self.static = StaticQuantizer(model, self.ranges, options).quantized()
        self.weights = AwareWeights(self.static, self.original, options.scheme.has_reduced_range)

    def trained(self) -> npt.NDArray[Any]:
        """What the graph in torch answers now."""
        with torch.no_grad():
            return np.asarray(TorchGraph(self.static, self.weights)(torch.from_numpy(self.rows)).numpy())

    def move(self, by: float) -> None:
        """Move every weight at random."""
        torch.manual_seed(3)
        with torch.no_grad():
            for each in self.weights.parameters():
                each.add_(torch.randn_like(each), alpha=by)


def image_rows(count: int = 32) -> npt.NDArray[np.float32]:
    return normal(count, 4, 8, 8, seed=8)


def token_rows() -> npt.NDArray[np.float32]:
    return np.random.default_rng(1).integers(0, 9, (32, 6)).astype(np.float32)


def scheme(weights: IntegerType = "int8", *, reduces: bool = False) -> Scheme:
    return Scheme("uint8", weights, reduces, "")


SCHEMES = {
    "per channel": OPTIONS,
    "one scale": replace(OPTIONS, is_per_channel=False),
    "seven bits": replace(OPTIONS, scheme=scheme(reduces=True)),
    "unsigned weights": replace(OPTIONS, scheme=scheme("uint8")),
    "signed activations": replace(OPTIONS, scheme=Scheme("int8", "int8", False, "")),
    "unsigned weights of seven bits, one scale": StaticOptions(scheme("uint8", reduces=True), is_per_channel=False),
}


def stored(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


@pytest.mark.parametrize("name", SCHEMES)
@pytest.mark.parametrize("kind", ["images", "tokens"])
def test_without_a_step_the_graph_is_the_static_one(kind: str, name: str, tmp_path: Path) -> None:
    model, rows = (images(), image_rows()) if kind == "images" else (tokens(), token_rows())
    known = Known(model, rows, tmp_path, SCHEMES[name])
    before, after = stored(known.static), stored(known.weights.written(known.static))
    assert before.keys() == after.keys()
    for tensor, values in before.items():
        assert after[tensor].dtype == values.dtype, tensor
        if values.dtype.kind == "f":
            # A scale's last bit: the quantizer divides in float64.
            np.testing.assert_allclose(after[tensor], values, rtol=2e-7, err_msg=tensor)
        else:
            # Where a scale differs in its last bit, a bias of millions of steps may by one.
            np.testing.assert_allclose(
                after[tensor].astype(float),
                values.astype(float),
                rtol=2e-7,
                atol=values.dtype == np.int32,
                err_msg=tensor,
            )


@pytest.mark.parametrize("name", SCHEMES)
def test_weights_that_moved_are_written_as_the_static_quantizer_writes_them(name: str, tmp_path: Path) -> None:
    """The reference is ONNX Runtime's quantizer, given the moved weights as floats."""
    known = Known(images(), image_rows(), tmp_path, SCHEMES[name])
    model = images()
    starts = {name: torch.from_numpy(values.copy()) for name, values in stored(model).items()}
    pairs = [
        (name, each)
        for each in known.weights.parameters()
        for name, start in starts.items()
        if each.shape == start.shape and torch.equal(each, start)
    ]
    assert sorted(name for name, _ in pairs) == sorted(starts)
    known.move(0.3)
    for each in model.graph.initializer:
        moved = dict(pairs)[each.name].detach().numpy()
        each.CopyFrom(numpy_helper.from_array(moved, each.name))
    expected = stored(StaticQuantizer(model, known.ranges, known.options).quantized())
    found = stored(known.weights.written(known.static))
    assert expected.keys() == found.keys()
    for tensor, values in expected.items():
        # Integers may differ by one where a weight lies on the border of two.
        np.testing.assert_allclose(
            found[tensor].astype(float),
            values.astype(float),
            rtol=3e-7,
            atol=values.dtype.kind != "f",
            err_msg=tensor,
        )
    changed = [tensor for tensor, values in stored(known.static).items() if not np.array_equal(values, found[tensor])]
    assert {"w_quantized", "w_scale", "b_quantized", "h_quantized", "d_quantized"} <= set(changed)


@pytest.mark.parametrize("kind", ["images", "tokens"])
def test_what_was_trained_is_what_is_written(kind: str, tmp_path: Path) -> None:
    model, rows = (images(), image_rows(256)) if kind == "images" else (tokens(), token_rows())
    known = Known(model, rows, tmp_path, OPTIONS)
    known.move(0.1)
    written = known.weights.written(known.static)
    onnx.checker.check_model(written, full_check=True)
    found = distance([(known.trained(), answers(written, (rows,)))], "argmax")
    # A number on the border of two integers falls to the other side now and then, by a step of 255.
    assert found.share < 5e-3
    assert found.agreement >= 0.99
    assert np.abs(known.trained() - answers(known.static, (rows,))).max() > 0.05


def test_all_weights_learn_and_the_rest_does_not(tmp_path: Path) -> None:
    known = Known(tokens(), token_rows(), tmp_path, OPTIONS)
    TorchGraph(known.static, known.weights)(torch.from_numpy(known.rows)).square().sum().backward()
    shapes = sorted(tuple(each.shape) for each in known.weights.parameters())
    # The head is a second copy of the table, turned; the bias of the Add is one of 8 bits, and learns all the same.
    assert shapes == sorted([(9, 8), (8, 9), (8,), (8,), (8, 8), (8,)])
    assert all(each.grad is not None and bool(each.grad.any()) for each in known.weights.parameters())


def test_a_channel_that_the_quantizer_widened_for_its_bias_stays_so(tmp_path: Path) -> None:
    """Weights near zero under a large bias: the bias would not fit into 32 bits at the scale of the weights."""
    model = images()
    weights = {each.name: each for each in model.graph.initializer}
    small = numpy_helper.to_array(weights["w"]).copy()
    small[2] *= 1e-12
    weights["w"].CopyFrom(numpy_helper.from_array(small, "w"))
    known = Known(model, image_rows(), tmp_path, OPTIONS)
    before, after = stored(known.static), stored(known.weights.written(known.static))
    assert before["w_scale"][2] > 1e3 * np.abs(small[2]).max() / 127
    np.testing.assert_allclose(after["w_scale"], before["w_scale"], rtol=2e-7)
    np.testing.assert_allclose(after["b_quantized"], before["b_quantized"], rtol=2e-7, atol=256)
    assert distance([(known.trained(), answers(known.static, (known.rows,)))], "argmax").share < 5e-3


def test_nodes_in_float_learn_their_floats_and_a_weight_in_both_forms_stays_one(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "w", "b"], ["y"], "two", pads=[1, 1, 1, 1]),
    ]
    model = made(nodes, IMAGE, {"w": normal(4, 4, 3, 3), "b": normal(4, seed=5)})
    rows = image_rows(64)
    ranges = ranges_of(model, (rows,), OPTIONS, tmp_path)
    written = StaticQuantizer(model, ranges, OPTIONS).quantized(frozenset({"two"}))
    weights = AwareWeights(written, model)
    assert sorted(tuple(each.shape) for each in weights.parameters()) == [(4,), (4, 4, 3, 3)]
    with torch.no_grad():
        for each in weights.parameters():
            each.mul_(1.5)
        found = TorchGraph(written, weights)(torch.from_numpy(rows)).numpy()
    back = weights.written(written)
    np.testing.assert_allclose(stored(back)["w"], 1.5 * stored(model)["w"])
    assert distance([(found, answers(back, (rows,)))], "none").share < 5e-3


def test_a_bias_that_two_nodes_share_is_written_as_it_was_trained(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["a"], "one", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["r"], "relu"),
        helper.make_node("Conv", ["r", "v", "b"], ["y"], "two", pads=[1, 1, 1, 1]),
    ]
    model = made(nodes, IMAGE, {"w": normal(4, 4, 3, 3), "v": normal(4, 4, 3, 3, seed=2), "b": normal(4, seed=5)})
    known = Known(model, image_rows(64), tmp_path, OPTIONS)
    known.move(0.1)
    written = known.weights.written(known.static)
    assert distance([(known.trained(), answers(written, (known.rows,)))], "none").share < 5e-3


def test_training_mends_what_coarse_ranges_have_broken(tmp_path: Path) -> None:
    """A line through points, whose hidden range is far too narrow: what is cut off, other weights make good."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "one", transB=1),
        helper.make_node("Relu", ["h"], ["r"], "relu"),
        helper.make_node("Gemm", ["r", "v", "d"], ["y"], "two", transB=1),
    ]
    first, second = normal(16, 6), normal(1, 16, seed=2)
    model = made(nodes, ROW, {"w": first, "b": normal(16, seed=3), "v": second, "d": np.zeros(1, np.float32)})
    rows = normal(256, 6, seed=8)
    wanted = torch.from_numpy(answers(model, (rows,)))
    ranges = ranges_of(model, (rows,), OPTIONS, tmp_path)
    narrow = {name: replace(each, high=each.high / 4) if name == "r" else each for name, each in ranges.items()}
    static = StaticQuantizer(model, narrow, OPTIONS).quantized()
    weights = AwareWeights(static, model)
    graph = TorchGraph(static, weights)
    optimizer = torch.optim.Adam(weights.parameters(), lr=0.02)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = (graph(torch.from_numpy(rows)) - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    after = answers(weights.written(static), (rows,))
    measured = float(np.square(after - wanted.numpy()).mean())
    assert measured < 0.2 * losses[0]
    assert measured == pytest.approx(losses[-1], rel=0.3)


def model_of(model: onnx.ModelProto, finish: nn.Module, rows: npt.NDArray[Any], folder: Path) -> tuple[Known, Any]:
    known = Known(model, rows, folder, OPTIONS)
    return known, aware_model(known.static, known.weights, finish, (rows[:2],))


def test_a_softmax_is_cut_off_for_learning_and_there_for_answers(tmp_path: Path) -> None:
    known, model = model_of(images(), nn.Softmax(dim=1), image_rows(), tmp_path)
    rows = torch.from_numpy(known.rows)
    raw: Tensor = model.raw_outputs(rows)
    assert bool((raw.sum(1) - 1).abs().min() > 1e-3)
    torch.testing.assert_close(model(rows), raw.softmax(1))
    assert distance([(model(rows).detach().numpy(), answers(known.static, (known.rows,)))], "argmax").share < 5e-3
    assert {id(each) for each in model.parameters()} == {id(each) for each in known.weights.parameters()}


def test_numbers_in_their_own_unit_are_brought_back_to_deviations(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["h"], "one", transB=1),
        helper.make_node("Squeeze", ["h", "axes"], ["s"], "flat"),
        helper.make_node("Mul", ["s", "deviation"], ["m"], "stretch"),
        helper.make_node("Add", ["m", "mean"], ["y"], "shift"),
    ]
    values: dict[str, npt.NDArray[Any]] = {
        "w": normal(1, 6),
        "b": normal(1, seed=2),
        "axes": np.array([1]),
        "deviation": np.array(20, np.float32),
        "mean": np.array(100, np.float32),
    }
    model = made(nodes, {"x": (onnx.TensorProto.FLOAT, ["batch", 6])}, values)
    known, learner = model_of(model, OwnUnit(100.0, 20.0), normal(32, 6, seed=8), tmp_path)
    raw = learner.raw_outputs(torch.from_numpy(known.rows))
    assert raw.shape == (32, 1)
    expected = (answers(known.static, (known.rows,)) - 100) / 20
    np.testing.assert_allclose(raw.detach().numpy()[:, 0], expected, atol=1e-4)
    whole = learner(torch.from_numpy(known.rows)).detach().numpy()
    np.testing.assert_allclose(whole, answers(known.static, (known.rows,)), rtol=1e-5)


def test_a_classification_that_ends_without_a_softmax_is_refused(tmp_path: Path) -> None:
    model = images()
    del model.graph.node[-1]
    model.graph.output[0].name = "logits"
    with pytest.raises(StepFailed, match="does not end in a Softmax"):
        model_of(model, nn.Softmax(dim=1), image_rows(), tmp_path)


def test_the_distance_is_a_share_of_the_answers_own_deviation() -> None:
    dice = np.random.default_rng(1)
    trained = np.array([100.0, 1.0]) + np.array([5.0, 0.1]) * dice.normal(size=(500, 2))
    given = trained + 0.5 * dice.normal(size=trained.shape)
    found = distance([(trained[:100], given[:100]), (trained[100:], given[100:])], "argmax")
    spread = np.square(trained - trained.mean(0)).sum()
    assert found.share == pytest.approx(np.sqrt(np.square(given - trained).sum() / spread))
    assert found.largest == pytest.approx(np.abs(given - trained).max())
    assert found.agreement == 1


def test_the_distance_of_equal_and_of_constant_answers() -> None:
    same = np.ones((4, 3))
    assert distance([(same, same)], "none").share == 0
    assert distance([(same, same + 1)], "none").share == float("inf")
    assert distance([(np.arange(4.0), np.arange(4.0))], "none").largest == 0
    assert distance([(np.eye(3), np.eye(3)[::-1])], "argmax").agreement == pytest.approx(1 / 3)


def test_a_graph_without_weights_has_nothing_to_learn(tmp_path: Path) -> None:
    model = made([helper.make_node("Add", ["x", "x"], ["y"], "sum")], ROW, {})
    with pytest.raises(StepFailed, match="no weights to learn"):
        model_of(model, nn.Identity(), normal(32, 6), tmp_path)


@pytest.mark.parametrize("name", ["per channel", "unsigned weights of seven bits, one scale", "signed activations"])
@pytest.mark.parametrize("kind", ["images", "tokens"])
def test_a_step_reads_nothing_back_from_the_device(kind: str, name: str, tmp_path: Path) -> None:
    """On torch's `meta` device there are no numbers: whoever reads one there fails."""
    model, rows = (images(), image_rows()) if kind == "images" else (tokens(), token_rows())
    known = Known(model, rows, tmp_path, SCHEMES[name])
    graph = TorchGraph(known.static, known.weights).to("meta")
    graph(torch.from_numpy(rows).to("meta")).sum().backward()
    assert {each.device.type for each in known.weights.parameters()} == {"meta"}
    assert all(each.grad is not None for each in known.weights.parameters())
