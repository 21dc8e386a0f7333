"""Networks become graphs."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from nets_for_graphs import METADATA, ConvNet, export_conv_net, export_perceptron, trained
from torch import Tensor, nn

from mlctl.errors import Unsupported
from mlctl.graphs.export import Exported, convert, export, write_graph
from mlctl.graphs.inspection import GraphPort, inspect
from mlctl.graphs.properties import read_properties
from mlctl.graphs.saving import DATA_NAME, load_graph
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings
from mlctl.runtime.session import OnnxSession


@pytest.fixture(scope="module")
def conv_net(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    return export_conv_net(tmp_path_factory.mktemp("conv"))


def test_a_convolutional_network_becomes_one_small_file(conv_net: Exported) -> None:
    assert [each.name for each in conv_net.path.parent.iterdir()] == ["model.onnx"]
    assert conv_net.bytes == conv_net.path.stat().st_size < 20_000
    assert conv_net.opset == 20
    operators = dict(conv_net.operators)
    assert operators["Conv"] == 2
    assert "BatchNormalization" not in operators
    assert conv_net.nodes == sum(operators.values())


def test_the_batch_is_open_and_the_names_are_those_asked_for(conv_net: Exported) -> None:
    found = inspect(conv_net.path)
    assert found.inputs == (GraphPort("image", "uint8", ("batch", 1, 8, 8)),)
    assert found.outputs == (GraphPort("probabilities", "float32", ("batch", 5)),)


def test_weights_keep_the_names_they_have_in_the_network(conv_net: Exported) -> None:
    names = {tensor.name for tensor in onnx.load(conv_net.path).graph.initializer}
    assert {"mean", "body.0.weight", "body.4.weight", "body.10.weight", "body.10.bias"} <= names


def test_nodes_name_their_module_and_nothing_else(conv_net: Exported) -> None:
    nodes = onnx.load(conv_net.path).graph.node
    assert {entry.key for node in nodes for entry in node.metadata_props} == {"pkg.torch.onnx.name_scopes"}
    (gemm,) = [node for node in nodes if node.op_type == "Gemm"]
    assert "'body.10'" in gemm.metadata_props[0].value


def test_metadata_is_written_sorted_and_read_by_the_runtime(conv_net: Exported) -> None:
    assert list(read_properties(onnx.load(conv_net.path))) == ["a", "mlctl.task"]
    assert OnnxSession(conv_net.path, threads=1).metadata == METADATA


def test_another_process_writes_the_same_bytes_and_no_path_or_word(conv_net: Exported, tmp_path: Path) -> None:
    program = "import sys, pathlib, nets_for_graphs as nets; nets.export_conv_net(pathlib.Path(sys.argv[1]))"
    paths = os.pathsep.join([str(Path(__file__).parent), *(each for each in sys.path if each)])
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": paths, "PYTHONHASHSEED": "77"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]
    content = (tmp_path / "model.onnx").read_bytes()
    assert content == conv_net.path.read_bytes()
    for trace in (b"site-packages", b".py", str(Path.cwd()).encode(), b"nets_for_graphs"):
        assert trace not in content


def test_exporting_again_in_one_process_writes_the_same_bytes(conv_net: Exported, tmp_path: Path) -> None:
    assert export_conv_net(tmp_path).path.read_bytes() == conv_net.path.read_bytes()


def test_an_output_without_further_dimensions_and_an_older_opset(tmp_path: Path) -> None:
    found = export_perceptron(tmp_path)
    assert found.opset == 18
    assert inspect(found.path).outputs == (GraphPort("prediction", "float32", ("batch",)),)


def test_large_weights_lie_beside_the_graph(tmp_path: Path, conv_net: Exported) -> None:
    found = write_graph(load_graph(conv_net.path), tmp_path, external_above=1000)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["model.onnx", DATA_NAME]
    assert found.bytes == sum(each.stat().st_size for each in tmp_path.iterdir())
    assert (found.nodes, found.parameters) == (conv_net.nodes, conv_net.parameters)
    images = np.arange(3 * 64, dtype=np.uint8).reshape(3, 1, 8, 8) % 17
    one, two = (OnnxSession(each.path, threads=1)((images,)) for each in (conv_net, found))
    assert one.tobytes() == two.tobytes()


@pytest.mark.parametrize("opset", range(18, 24))
def test_every_operator_set_is_loaded_and_answers_as_the_network(opset: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build(CnnSettings(channels=(8, 12)), ((1, 8, 8),), 10)
    model = CompleteModel(network, (InputScaling(16.0),), nn.Softmax(dim=1)).eval()
    images = torch.randint(0, 17, (5, 1, 8, 8), dtype=torch.uint8)
    found = export(
        model, example=(images,), input_names=("image",), output_name="y", opset=opset, metadata={}, into=tmp_path
    )
    assert found.opset == opset
    assert "BatchNormalization" not in dict(found.operators)
    with torch.inference_mode():
        expected = model(images).numpy()
    # Probabilities of a few hundred float32 products: a few units of 6e-8.
    np.testing.assert_allclose(OnnxSession(found.path, threads=1)((images.numpy(),)), expected, rtol=0, atol=1e-6)


def test_what_the_exporter_gives_is_a_whole_graph_before_any_pass() -> None:
    raw = convert(
        trained(ConvNet()),
        example=(torch.zeros(2, 1, 8, 8, dtype=torch.uint8),),
        input_names=("image",),
        output_name="probabilities",
        opset=20,
    )
    onnx.checker.check_model(raw, full_check=True)
    assert "BatchNormalization" in {node.op_type for node in raw.graph.node}
    assert {"mean", "body.0.weight"} <= {tensor.name for tensor in raw.graph.initializer}


class Bessel(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        answers: Tensor = torch.special.bessel_j0(rows)
        return answers


class Branching(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows * 2 if rows.sum() > 0 else rows


class Pairs(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows.reshape(2, -1)


class PairsOnly(nn.Module):
    def forward(self, rows: Tensor) -> Tensor:
        return rows[:2] + rows if rows.shape[0] == 2 else rows


def refused(net: nn.Module, into: Path) -> Unsupported:
    with pytest.raises(Unsupported) as refusal:
        export(
            net.eval(),
            example=(torch.ones(2, 4),),
            input_names=("x",),
            output_name="y",
            opset=20,
            metadata={},
            into=into,
        )
    assert "\n" not in refusal.value.what
    assert list(into.iterdir()) == []
    return refusal.value


def test_a_missing_operator_is_named_with_its_module(tmp_path: Path) -> None:
    refusal = refused(nn.Sequential(nn.Linear(4, 4), nn.Sequential(nn.ReLU(), Bessel())), tmp_path)
    assert refusal.what.startswith("ONNX has no prims.bessel_j0, which 1.1 (Bessel) uses; the exporter said: No ONNX")


def test_a_branch_on_data_is_named_with_its_line(tmp_path: Path) -> None:
    refusal = refused(nn.Sequential(nn.Linear(4, 4), Branching()), tmp_path)
    assert "Sequential cannot be traced (test_graph_export.py, line" in refusal.what
    assert "depends on its input's values" in refusal.next


@pytest.mark.parametrize("net", [Pairs(), PairsOnly()], ids=["reshaped", "branched"])
def test_a_frozen_batch_is_refused(net: nn.Module, tmp_path: Path) -> None:
    assert "batch" in str(refused(net, tmp_path))


def test_a_failure_leaves_logging_as_it_was(tmp_path: Path) -> None:
    logging.disable(logging.INFO)
    try:
        refused(Bessel(), tmp_path)
        assert logging.root.manager.disable == logging.INFO
    finally:
        logging.disable(logging.NOTSET)
