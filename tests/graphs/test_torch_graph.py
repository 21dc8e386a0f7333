"""Whole graphs in torch: ONNX Runtime's answers, the network's own gradients, and nothing read from the device."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from mlctl.errors import StepFailed
from mlctl.graphs.export import export
from mlctl.graphs.learnt_weights import learnt_weights
from mlctl.graphs.saving import load_graph
from mlctl.graphs.torch_graph import GivenTensors, TorchGraph, require_gradients, require_runs
from mlctl.graphs.torch_operator import tensor_of
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import (
    CnnSettings,
    GruSettings,
    LinearSettings,
    LstmSettings,
    MlpSettings,
    NetworkSettings,
    ResNetSettings,
    TransformerSettings,
    VitSettings,
)
from mlctl.runtime.session import OnnxSession

OUTPUTS: Final = 20
PIXELS: Final = InputScaling(255.0, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
COLUMNS: Final = InputScaling(1.0, (1.0, 2.0, 3.0), (0.5, 1.0, 2.0))
NETWORKS: Final[Mapping[str, NetworkSettings]] = {
    "linear": LinearSettings(),
    "mlp": MlpSettings(hidden=(8, 8), activation="gelu"),
    "cnn": CnnSettings(channels=(4, 8)),
    "resnet": ResNetSettings(depth=8, width=8, stem="imagenet"),
    "vit": VitSettings(patch=4, width=16, layers=1, heads=2),
    "vit with a token": VitSettings(patch=4, width=16, layers=2, heads=2, pool="token"),
    "lstm": LstmSettings(embedding=8, hidden=8, layers=2),
    "gru": GruSettings(embedding=8, hidden=8, layers=2),
    "transformer": TransformerSettings(width=16, layers=1, heads=2),
}


@dataclass(frozen=True)
class Known:
    """A network, rows for it, and its graph, which gives raw outputs."""

    model: CompleteModel
    rows: npt.NDArray[Any]
    graph: onnx.ModelProto

    def expected(self) -> npt.NDArray[np.float32]:
        return np.asarray(OnnxSession(self.graph.SerializeToString(), threads=1)((self.rows,)))


def rows_for(settings: NetworkSettings) -> tuple[npt.NDArray[Any], InputScaling | None]:
    dice = np.random.default_rng(3)
    if isinstance(settings, LstmSettings | GruSettings | TransformerSettings):
        return dice.integers(0, OUTPUTS, (6, 12)), None
    if isinstance(settings, MlpSettings | LinearSettings):
        return dice.normal(size=(6, 3)).astype(np.float32), COLUMNS
    return dice.integers(0, 256, (6, 3, 16, 16)).astype(np.uint8), PIXELS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@cache
def exported(name: str, folder: Path) -> Known:
    torch.set_num_threads(1)
    torch.manual_seed(4)
    rows, scaling = rows_for(NETWORKS[name])
    model = CompleteModel(build(NETWORKS[name], (rows.shape[1:],), OUTPUTS), (scaling,), nn.Identity())
    with torch.no_grad():
        # As training leaves them; the exporter stores weights that are all alike but once.
        for each in model.parameters():
            each.add_(torch.randn_like(each), alpha=0.05)
        for _ in range(3):
            model.train()(torch.from_numpy(rows))
    model.eval()
    into = folder / name.replace(" ", "-")
    into.mkdir()
    open_dimensions = {} if scaling else {("rows", 1): "time", ("outputs", 1): "time"}
    found = export(
        model,
        example=(torch.from_numpy(rows[:2]),),
        input_names=("rows",),
        output_name="outputs",
        opset=20,
        metadata={},
        into=into,
        open_dimensions=open_dimensions,
    )
    return Known(model, rows, load_graph(found.path))


class StoredTensors(GivenTensors):
    """Some of a graph's stored tensors as parameters."""

    def __init__(self, model: onnx.ModelProto, names: Collection[str]) -> None:
        super().__init__()
        self._order = tuple(each.name for each in model.graph.initializer if each.name in names)
        self.names = frozenset(self._order)
        stored = {each.name: each for each in model.graph.initializer}
        self.weights = nn.ParameterList(nn.Parameter(tensor_of(stored[name])) for name in self._order)

    def forward(self) -> dict[str, Tensor]:
        return dict(zip(self._order, self.weights, strict=True))


def learning(graph: onnx.ModelProto) -> TorchGraph:
    return TorchGraph(graph, StoredTensors(graph, learnt_weights(graph)))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_answers_as_onnx_runtime(name: str, folder: Path) -> None:
    known = exported(name, folder)
    with torch.no_grad():
        found = learning(known.graph)(torch.from_numpy(known.rows)).numpy()
    expected = known.expected()
    assert found.shape == expected.shape
    # Both in float32, sums in another order, over nine layers at most; outputs are near 1.
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    # Ten rows are no multiple of what the exporter saw.
    more = np.concatenate([known.rows, known.rows[:4]])
    with torch.no_grad():
        assert TorchGraph(known.graph)(torch.from_numpy(more)).shape[0] == 10


@pytest.mark.parametrize("name", NETWORKS)
def test_the_weights_of_a_network_are_what_learns(name: str, folder: Path) -> None:
    """All of its parameters, but those that are only added: positions and a class token, and what was folded."""
    known = exported(name, folder)
    graph = learning(known.graph)
    graph(torch.from_numpy(known.rows)).square().sum().backward()
    assert all(each.grad is not None and each.grad.abs().sum() > 0 for each in graph.parameters())
    folded = sum(part.num_features for part in known.model.modules() if isinstance(part, nn.BatchNorm2d))
    added = sum(each.numel() for key, each in known.model.named_parameters() if key.endswith(("positions", "token")))
    # A graph stores the head that a transformer shares with its embedding a second time, turned.
    turned = OUTPUTS * 16 if name == "transformer" else 0
    # A batch norm's scale and shift become one bias for each channel.
    expected = sum(each.numel() for each in known.model.parameters()) - folded - added + turned
    assert sum(each.numel() for each in graph.parameters()) == expected


@pytest.mark.parametrize("name", ["linear", "mlp", "vit", "lstm", "gru", "transformer"])
def test_gradients_are_those_of_the_network(name: str, folder: Path) -> None:
    known = exported(name, folder)
    rows = torch.from_numpy(known.rows)
    known.model.zero_grad()
    known.model(rows).square().sum().backward()
    expected = {key: each.grad for key, each in known.model.named_parameters()}
    given = StoredTensors(known.graph, learnt_weights(known.graph))
    TorchGraph(known.graph, given)(rows).square().sum().backward()
    order = [each.name for each in known.graph.graph.initializer if each.name in given.names]
    compared = 0
    for key, weight in zip(order, given.weights, strict=True):
        wanted, found = expected.get(key), weight.grad
        assert found is not None
        if wanted is not None and wanted.shape == weight.shape:
            for other in given.weights if weight.ndim == 2 else ():
                if other is not weight and torch.equal(other, weight.T):
                    assert other.grad is not None
                    found = found + other.grad.T
            # The same sums in float32, in another order.
            torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
            compared += 1
    assert compared >= 2


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_found_on_the_host(name: str, folder: Path) -> None:
    """On torch's `meta` device there are no numbers: whoever reads one there fails."""
    known = exported(name, folder)
    graph = learning(known.graph).to("meta")
    found = graph(torch.from_numpy(known.rows).to("meta"))
    assert found.device.type == "meta"
    assert found.shape == known.expected().shape


def made(nodes: list[onnx.NodeProto], stored: Mapping[str, npt.NDArray[Any]], outputs: list[str]) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "by-hand",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_a_tensor_inside_can_be_the_output_and_what_follows_is_left_out() -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["doubled"]),
        helper.make_node("Det", ["doubled"], ["y"]),
    ]
    model = made(nodes, {"two": np.array(2, np.float32)}, ["y"])
    rows = torch.arange(8.0).reshape(2, 4)
    assert torch.equal(TorchGraph(model, outputs=("doubled",))(rows), 2 * rows)
    for refuse in (TorchGraph, require_gradients):
        with pytest.raises(StepFailed, match="Det"):
            refuse(model)


def test_constants_of_every_kind_and_several_outputs() -> None:
    nodes = [
        helper.make_node("Constant", [], ["a"], value=numpy_helper.from_array(np.array([1, 2, 3, 4], np.float32))),
        helper.make_node("Constant", [], ["b"], value_float=2.0),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Constant", [], ["axis"], value_int=1),
        helper.make_node("Add", ["x", "a"], ["sum"]),
        helper.make_node("Mul", ["sum", "b"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "axes"], ["z"]),
        helper.make_node("CumSum", ["x", "axis"], ["sums"]),
    ]
    require_gradients(made(nodes, {}, ["y"]))
    first, second, third = TorchGraph(made(nodes, {}, ["y", "z", "sums"]))(torch.ones(2, 4))
    assert first.tolist() == [[4, 6, 8, 10]] * 2
    assert second.shape == (1, 2, 4)
    assert third.tolist() == [[1, 2, 3, 4]] * 2


def test_unsigned_numbers_of_sixteen_bits_are_computed_with() -> None:
    model = made([helper.make_node("Gather", ["table", "x"], ["y"])], {"table": np.eye(4, dtype=np.float32)}, ["y"])
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT16
    found = TorchGraph(model)(torch.tensor([[3, 0, 1, 2]], dtype=torch.uint16))
    assert found[0].argmax(-1).tolist() == [3, 0, 1, 2]


def test_functions_of_the_model_itself_are_computed() -> None:
    function = helper.make_function(
        "own", "Twice", ["v"], ["w"], [helper.make_node("Add", ["v", "v"], ["w"])], [helper.make_opsetid("", 20)]
    )
    model = made([helper.make_node("Twice", ["x"], ["y"], domain="own")], {}, ["y"])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    assert TorchGraph(model)(torch.ones(1, 4)).tolist() == [[2, 2, 2, 2]]


def test_shapes_that_do_not_fit_are_a_failed_step() -> None:
    model = made([helper.make_node("Add", ["x", "a"], ["y"])], {"a": np.ones(3, np.float32)}, ["y"])
    with pytest.raises(StepFailed, match="torch cannot compute this graph"):
        require_runs(TorchGraph(model), (torch.ones(2, 4),))


def test_a_type_that_torch_lacks_is_named() -> None:
    stored = helper.make_tensor("a", TensorProto.FLOAT8E4M3FN, [4], [1.0, 2.0, 3.0, 4.0])
    model = made([helper.make_node("Cast", ["a"], ["y"], to=TensorProto.FLOAT)], {}, ["y"])
    model.graph.initializer.append(stored)
    with pytest.raises(StepFailed, match="'a' is of a type that cannot be trained with"):
        TorchGraph(model)


def roles(nodes: list[onnx.NodeProto], shapes: Mapping[str, tuple[int, ...]]) -> frozenset[str]:
    stored = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
    return learnt_weights(made(nodes, stored, [nodes[-1].output[0]]))


def test_constants_of_the_arithmetic_are_not_learnt() -> None:
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "deviation"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weight"], ["product"]),
        helper.make_node("Add", ["bias", "product"], ["h"]),
        helper.make_node("Add", ["h", "mask"], ["masked"]),
        helper.make_node("Mul", ["masked", "unit"], ["y"]),
    ]
    vector = (4,)
    shapes = {"mean": vector, "deviation": vector, "weight": (4, 4), "bias": vector, "mask": (1, 4), "unit": ()}
    assert roles(nodes, shapes) == {"weight", "bias"}


def test_weights_are_found_behind_what_turns_them() -> None:
    nodes = [
        helper.make_node("Transpose", ["embedding"], ["turned"]),
        helper.make_node("Gather", ["embedding", "places"], ["rows"]),
        helper.make_node("Gather", ["list", "places"], ["entries"]),
        helper.make_node("MatMul", ["rows", "turned"], ["y"]),
    ]
    assert roles(nodes, {"embedding": (5, 4), "list": (5,), "places": (2,)}) == {"embedding"}


def test_a_constant_on_the_host_follows_its_reader() -> None:
    """Places that are numbers of a table, not of a shape, are on the host and are looked up on the device."""
    nodes = [
        helper.make_node("Gather", ["x", "places"], ["some"], axis=1),
        helper.make_node("Shape", ["some"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["some", "zeros"], ["y"]),
    ]
    graph = TorchGraph(made(nodes, {"places": np.array([2, 0])}, ["y"]))
    assert graph(torch.tensor([[5.0, 6.0, 7.0, 8.0]])).tolist() == [[7.0, 5.0]]
    found: Tensor = graph(torch.ones(3, 4, device="meta"))
    assert (found.device.type, tuple(found.shape)) == ("meta", (3, 2))
