"""Work is counted, and compared with counts that others make."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from nets_for_graphs import ConvNet, export_conv_net, trained
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mlctl.graphs.export import export
from mlctl.graphs.flops import Work, work_of
from mlctl.graphs.inspection import read_graph
from mlctl.graphs.multiply_adds import multiply_adds
from mlctl.graphs.shapes import AssumedSize, shaped
from mlctl.models.table import build
from mlctl.recipe.networks import CnnSettings

Dims = Sequence[int | str]


class Transformer(nn.Module):
    """int64 tokens [B, 12] to numbers [B, 12, 30]: two layers with attention, written as products."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 16)
        self.query, self.key, self.value, self.out = (nn.ModuleList(nn.Linear(16, 16) for _ in "12") for _ in range(4))
        self.wide, self.narrow = (nn.ModuleList(nn.Linear(*sizes) for _ in "12") for sizes in ((16, 64), (64, 16)))
        self.head = nn.Linear(16, 30)

    def forward(self, *raw: Tensor) -> Tensor:
        rows = self.embedding(raw[0])
        for layer in range(2):
            query, key, value = (
                each[layer](rows).unflatten(-1, (4, 4)).transpose(1, 2) for each in (self.query, self.key, self.value)
            )
            attended = (query @ key.transpose(2, 3) / 2).softmax(-1) @ value
            rows = rows + self.out[layer](attended.transpose(1, 2).flatten(2))
            rows = rows + self.narrow[layer](nn.functional.gelu(self.wide[layer](rows)))
        answers: Tensor = self.head(rows)
        return answers


def torch_flops(net: nn.Module, example: Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(example)
    return int(counter.get_total_flops())


def test_a_convolutional_network_counts_as_torch_counts(tmp_path: Path) -> None:
    work = work_of(shaped(read_graph(export_conv_net(tmp_path).path)))
    assert work.flops == torch_flops(trained(ConvNet()), torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    assert (work.uncounted, work.integer_share) == ((), 0.0)


def test_the_network_of_digits_counts_as_torch_counts(tmp_path: Path) -> None:
    net, example = build(CnnSettings(channels=(32, 64)), ((1, 8, 8),), 10).eval(), torch.zeros(2, 1, 8, 8)
    exported = export(
        net, example=(example,), input_names=("image",), output_name="y", opset=20, metadata={}, into=tmp_path
    )
    work = work_of(shaped(read_graph(exported.path)))
    assert work.flops == torch_flops(net, example[:1])
    assert work.uncounted == ()


def test_a_transformer_counts_as_torch_counts(tmp_path: Path) -> None:
    net, example = Transformer().eval(), torch.zeros(2, 12, dtype=torch.int64)
    exported = export(
        net, example=(example,), input_names=("tokens",), output_name="y", opset=20, metadata={}, into=tmp_path
    )
    work = work_of(shaped(read_graph(exported.path)))
    assert work.flops == torch_flops(net, example[:1])
    assert work.uncounted == ()
    assert {node.scope for node in work.nodes if node.flops} >= {"query.0", "head"}


def graph_of(
    operator: str,
    inputs: Sequence[Dims],
    *,
    domain: str = "",
    weights: Sequence[tuple[int, ...]] = (),
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """One node over float inputs and stored float weights of these shapes."""
    names = [f"x{number}" for number in range(len(inputs))]
    stored = [
        numpy_helper.from_array(np.zeros(shape, np.float32), f"w{number}") for number, shape in enumerate(weights)
    ]
    taken = [*names, *(each.name for each in stored)]
    given = [f"y{number}" for number in range(outputs)]
    node = helper.make_node(operator, taken, given, domain=domain, **attributes)
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in zip(names, inputs, strict=True)
    ]
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in given]
    sets = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(helper.make_graph([node], "g", ports, out, stored), opset_imports=sets)


def counted(model: onnx.ModelProto) -> int | None:
    return multiply_adds(model.graph.node[0], shaped(model))


def test_a_strided_grouped_convolution_by_hand() -> None:
    model = graph_of("Conv", [["b", 4, 9, 11]], weights=[(6, 2, 3, 5)], group=2, strides=[2, 2])
    # Its answer is [1, 6, 4, 4], every number of it a sum over 2 channels and 3 × 5 places.
    assert counted(model) == (6 * 4 * 4) * (2 * 3 * 5)
    assert work_of(shaped(model)).flops == 2 * 2880


def transposed(sizes: tuple[int, ...], weight: tuple[int, ...]) -> int:
    """Every input number meets every weight of its channel once."""
    return int(np.prod(sizes)) * int(np.prod(weight[1:]))


BY_HAND: dict[str, tuple[onnx.ModelProto, int | None]] = {
    "ConvTranspose": (
        graph_of("ConvTranspose", [["b", 4, 5, 5]], weights=[(4, 3, 2, 2)], strides=[2, 2]),
        transposed((1, 4, 5, 5), (4, 3, 2, 2)),
    ),
    "Gemm, transposed": (graph_of("Gemm", [[7, "b"]], weights=[(5, 7)], transA=1, transB=1), 64 * 7 * 5),
    "MatMul, open length": (graph_of("MatMul", [["b", "t", 6]], weights=[(6, 10)]), 64 * 6 * 10),
    "MatMul of vectors": (graph_of("MatMul", [[6], [6]]), 6),
    "Einsum": (graph_of("Einsum", [["b", 3, 4], ["b", 5, 4]], equation="bij,bkj->bik"), 3 * 5 * 4),
    "Einsum of three": (graph_of("Einsum", [[3], [3], [3]], equation="i,i,i->i"), None),
    "LSTM": (
        graph_of("LSTM", [[9, "b", 6]], weights=[(2, 20, 6), (2, 20, 5)], hidden_size=5, direction="bidirectional"),
        # 9 steps of 64 rows (the batch stands second), two directions, four gates.
        9 * 64 * 2 * 4 * 5 * (6 + 5),
    ),
    "Attention": (graph_of("Attention", [["b", 2, 3, 8], ["b", 2, 7, 8], ["b", 2, 7, 8]]), 2 * 2 * 3 * 7 * 8),
    "MultiHeadAttention": (
        graph_of("MultiHeadAttention", [["b", 3, 16]] * 3, domain="com.microsoft", num_heads=2),
        None,
    ),
    "MatMulNBits": (
        graph_of("MatMulNBits", [["b", 5, 32]], domain="com.microsoft", weights=[(8, 1, 16), (8,)], K=32, N=8, bits=4),
        5 * 32 * 8,
    ),
    "Relu": (graph_of("Relu", [["b", 4]]), 0),
    "an operator of somebody": (graph_of("MatMul", [["b", 4]], domain="mine"), None),
    "an unknown shape": (graph_of("MatMul", [["b", 4], [4]], domain="com.microsoft"), None),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_other_products_by_hand(name: str) -> None:
    model, expected = BY_HAND[name]
    assert counted(model) == expected


def test_what_is_not_counted_is_named() -> None:
    work = work_of(shaped(graph_of("GridSample", [["b", 1, 4, 4], ["b", 4, 4, 2]])))
    assert (work.flops, work.uncounted) == (0, (("GridSample", 1),))


def branching() -> Work:
    """An If whose one branch multiplies once, and whose other twice; then once more."""
    weight = numpy_helper.from_array(np.zeros((3, 3), np.float32), "w")

    def branch(name: str, times: int) -> onnx.GraphProto:
        names = ["x", *(f"{name}{number}" for number in range(times))]
        nodes = [helper.make_node("MatMul", [a, "w"], [b]) for a, b in pairwise(names)]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(names[-1], 1, None)])

    nodes = [
        helper.make_node("If", ["c"], ["i"], then_branch=branch("t", 1), else_branch=branch("e", 2)),
        helper.make_node("MatMul", ["i", "w"], ["y"]),
    ]
    ports = [helper.make_tensor_value_info("x", 1, ["b", 3]), helper.make_tensor_value_info("c", TensorProto.BOOL, [])]
    graph = helper.make_graph(nodes, "g", ports, [helper.make_tensor_value_info("y", 1, None)], [weight])
    return work_of(shaped(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])))


def test_of_branches_the_costliest_counts() -> None:
    work = branching()
    assert work.flops == 2 * (2 * 9 + 9)
    assert [(node.operator, node.flops) for node in work.nodes] == [
        ("If", 0), ("MatMul", 18), ("MatMul", 18), ("MatMul", 18), ("MatMul", 18),
    ]  # fmt: skip


def test_a_function_of_the_model_is_written_out() -> None:
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    function = helper.make_function("f", "Product", ["a", "b"], ["c"], body, [helper.make_opsetid("", 23)])
    model = graph_of("Product", [["b", 6]], domain="f", weights=[(6, 2)])
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("f", 1))
    work = work_of(shaped(model))
    assert [(node.operator, node.flops) for node in work.nodes] == [("MatMul", 24)]


def test_open_dimensions_get_sizes_and_say_so() -> None:
    found = shaped(graph_of("Add", [["b", "t", 4], ["t", 4]]), open_size=10)
    assert found.of("y0") == (1, 10, 4)
    assert found.assumed == (
        AssumedSize("x0", 0, "b", 1), AssumedSize("x0", 1, "t", 10), AssumedSize("x1", 0, "t", 10),
    )  # fmt: skip


@pytest.mark.parametrize("note", ["-" * 200_000 + "1", "[" * 200_000, "", "['', 'unfinished"])
def test_a_note_that_names_no_modules_is_passed_over(note: str) -> None:
    model = graph_of("Conv", [["b", 1, 3, 3]], weights=[(1, 1, 3, 3)])
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.name_scopes", value=note)
    assert [(node.scope, node.flops) for node in work_of(shaped(model)).nodes] == [("", 2 * 9)]


def test_every_operator_of_onnx_is_counted_free_or_known_to_be_neither() -> None:
    """A new operator must be looked at before it can be taken for nothing."""
    names = {schema.name for schema in onnx.defs.get_all_schemas() if schema.domain == ""}
    nodes = {name: work_of(shaped(graph_of(name, [[2]]))).uncounted for name in sorted(names)}
    never = {name for name, uncounted in nodes.items() if uncounted}
    assert {"Loop", "Scan", "GridSample", "DFT", "Conv"} <= never
    assert not never & {"Relu", "Softmax", "Gather", "DequantizeLinear"}
