"""Networks for images become graphs for any batch with the same answers, then smaller ones with nearly the same."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from float_graphs import cosine, operators
from onnx import TensorProto
from static_graphs import OPTIONS, decibels, quantizer_of
from torch import nn

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.static import attends
from mlctl.graphs.export import export
from mlctl.graphs.inspection import GraphPort, inspect
from mlctl.graphs.parity import parity
from mlctl.graphs.saving import load_graph
from mlctl.models.complete import CompleteModel, InputScaling
from mlctl.models.table import build
from mlctl.recipe.networks import NetworkSettings, ResNetSettings, VitSettings
from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession

CLASSES = 10
SCALING = InputScaling(255.0, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3))
NETWORKS: dict[str, tuple[NetworkSettings, int]] = {
    "resnet": (ResNetSettings(depth=8, width=8), 8),
    "resnet with bottlenecks": (ResNetSettings(depth=50, width=2), 8),
    "resnet with pooling": (ResNetSettings(depth=8, width=8, stem="imagenet"), 16),
    "vit": (VitSettings(patch=4, width=32, layers=2, heads=2), 8),
    "vit with a token": (VitSettings(patch=8, width=32, layers=2, heads=2, pool="token"), 16),
}
"""Settings, and the side of the images."""

RESNETS = tuple(name for name in NETWORKS if name.startswith("resnet"))
VITS = tuple(name for name in NETWORKS if name.startswith("vit"))


@dataclass(frozen=True)
class Known:
    """A network as training leaves it, raw images for it, and its graph, which gives logits."""

    model: CompleteModel
    rows: Arrays
    graph: onnx.ModelProto

    def reference(self, rows: Arrays) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self.model(*map(torch.from_numpy, rows)).numpy())

    def answers(self, graph: onnx.ModelProto, rows: Arrays) -> npt.NDArray[Any]:
        return OnnxSession(graph.SerializeToString(), threads=1)(rows)


def lively(model: nn.Module, rows: Arrays) -> None:
    """Statistics of batch norms as batches leave them, and no part that adds nothing."""
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.0)
        if isinstance(part, nn.Linear):
            nn.init.normal_(part.weight, std=part.in_features**-0.5)
    with torch.no_grad():
        for _ in range(20):
            model.train()(*map(torch.from_numpy, rows))
    model.eval()


@cache
def exported(name: str, folder: Path) -> Known:
    torch.set_num_threads(1)
    torch.manual_seed(4)
    wanted, side = NETWORKS[name]
    model = CompleteModel(build(wanted, ((3, side, side),), CLASSES), (SCALING,), nn.Identity())
    rows = (np.random.default_rng(2).integers(0, 256, (64, 3, side, side)).astype(np.uint8),)
    lively(model, rows)
    into = folder / name.replace(" ", "-")
    into.mkdir()
    example = (torch.from_numpy(rows[0][:2]),)
    found = export(
        model, example=example, input_names=("image",), output_name="logits", opset=20, metadata={}, into=into
    )
    return Known(model, rows, load_graph(found.path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("networks")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_graph_takes_any_batch_and_answers_as_its_network(name: str, folder: Path) -> None:
    known = exported(name, folder)
    side = NETWORKS[name][1]
    found = inspect(folder / name.replace(" ", "-") / "model.onnx")
    assert found.inputs == (GraphPort("image", "uint8", ("batch", 3, side, side)),)
    assert found.outputs == (GraphPort("logits", "float32", ("batch", CLASSES)),)
    session = OnnxSession(known.graph.SerializeToString(), threads=1)
    compared = parity(known.reference, session, known.rows, decision="argmax", batches=(1, 2, 17, 64))
    assert compared.worst <= 1e-4
    # Logits near 1 in float32: what is closer than 1e-4 to another is a tie.
    logits = np.sort(known.reference(known.rows), axis=1)
    assert (logits[:, -1] - logits[:, -2]).min() > 1e-4
    assert all(each.agreement == 1 for each in compared.batches)


def expected_decibels(roundings: int) -> float:
    """Signal over noise of an answer behind so many tensors of 8 bits, each about as important as the others.

    One whose range is eight times its deviation has a noise of range / 255 / sqrt(12), 41 dB below the deviation; the
    noise of all of them adds up.
    """
    return float(20 * np.log10(255 * 12**0.5 / 8) - 10 * np.log10(roundings))


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_keeps_no_normalization_and_a_convolution_for_each_of_its_own(name: str, folder: Path) -> None:
    known = exported(name, folder)
    kinds = operators(known.graph)
    convolutions = [part for part in known.model.modules() if isinstance(part, nn.Conv2d)]
    assert kinds.count("Conv") == len(convolutions)
    assert "BatchNormalization" not in kinds
    assert kinds.count("MaxPool") == (name == "resnet with pooling")
    # One behind the stem, one behind every convolution but the last of a block, and one behind every sum.
    shortcuts = sum(name.endswith("shortcut.conv") for name, _ in known.model.network.named_modules())
    assert kinds.count("Relu") == len(convolutions) - shortcuts


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_with_fixed_ranges_is_integers_from_end_to_end(name: str, folder: Path, tmp_path: Path) -> None:
    known = exported(name, folder)
    assert not attends(known.graph)
    quantizer = quantizer_of(known.graph, known.rows, tmp_path)
    written = quantizer.quantized()
    onnx.checker.check_model(written, full_check=True)
    kinds = operators(written)
    weighted = [node.name for node in known.graph.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    assert set(weighted) <= set(quantizer.nodes)
    kernels = [each for each in written.graph.initializer if each.data_type == TensorProto.INT8 and len(each.dims) > 1]
    assert len(kernels) == len(weighted)
    floats = [each for each in written.graph.initializer if each.data_type == TensorProto.FLOAT]
    assert max(np.prod(each.dims) for each in floats) <= 128, "only scales, biases and means stay floats"
    assert kinds.count("QuantizeLinear") >= len(weighted)
    assert kinds.count("DequantizeLinear") >= 2 * len(weighted)
    assert decibels(known.graph, written, known.rows) > expected_decibels(kinds.count("QuantizeLinear") + len(weighted))
    expected, found = (known.answers(graph, known.rows) for graph in (known.graph, written))
    # What sets images apart is a quarter of what all logits have in common: 20 dB become 8, a cosine of 0.93.
    assert cosine(expected - expected.mean(0), found - found.mean(0)) > 0.93


@pytest.mark.parametrize("name", VITS)
def test_a_vit_has_integer_weights_and_ranges_of_every_call(name: str, folder: Path) -> None:
    known = exported(name, folder)
    assert attends(known.graph)
    quantizer = DynamicQuantizer(known.graph, WeightForm())
    written = quantizer.quantized()
    onnx.checker.check_model(written, full_check=True)
    kinds = operators(written)
    # Of each of two blocks: what attention reads, what it gives, and two dense layers; then the head.
    assert len(quantizer.nodes) == kinds.count("MatMulInteger") == 2 * 4 + 1
    # Each reads what it alone reads; the convolution of the patches stays as it is.
    assert kinds.count("DynamicQuantizeLinear") == 2 * 4 + 1
    assert kinds.count("Conv") == 1
    kernels = [each for each in written.graph.initializer if each.data_type == TensorProto.INT8 and len(each.dims) > 1]
    assert len(kernels) == 9
    assert decibels(known.graph, written, known.rows) > expected_decibels(2 * 9)
    for batch in (1, 5):
        some = tuple(each[:batch] for each in known.rows)
        assert known.answers(written, some).shape == (batch, CLASSES)


@pytest.mark.parametrize("name", ["resnet", "vit"])
def test_integers_are_smaller(name: str, folder: Path, tmp_path: Path) -> None:
    known = exported(name, folder)
    quantizer = (
        DynamicQuantizer(known.graph, WeightForm())
        if name in VITS
        else quantizer_of(known.graph, known.rows, tmp_path, OPTIONS)
    )
    # A quarter for the weights; scales, biases and the nodes themselves are a large part of a network this small.
    assert quantizer.quantized().ByteSize() < 0.6 * known.graph.ByteSize()
