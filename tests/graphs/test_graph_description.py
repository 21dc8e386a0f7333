"""Whatever a file holds, it is described or refused; it never surprises."""

import random
from pathlib import Path

import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets_for_graphs import export_conv_net
from onnx import TensorProto, helper

from mlctl.errors import DataError
from mlctl.graphs.description import OperatorSet, describe
from mlctl.graphs.inspection import GraphPort


def test_an_exported_graph_is_described(tmp_path: Path) -> None:
    found = describe(export_conv_net(tmp_path).path)
    assert found.operator_sets == (OperatorSet("ai.onnx", 20),)
    assert found.inputs == (GraphPort("image", "uint8", ("batch", 1, 8, 8)),)
    assert found.producer.startswith("pytorch ")
    assert found.metadata["mlctl.task"] == "image-classification"
    assert sum(each.nodes for each in found.operators) == len(found.nodes)
    assert found.bytes == (tmp_path / "model.onnx").stat().st_size


def calling(arguments: int) -> onnx.ModelProto:
    """Calls a function of one argument with so many; one input is a sequence, and the output has no shape."""
    body = [helper.make_node("Relu", ["a"], ["c"])]
    function = helper.make_function("f", "Once", ["a"], ["c"], body, [helper.make_opsetid("", 20)])
    value = helper.make_tensor_value_info
    ports = [
        value("x", TensorProto.FLOAT, ["b", 2]),
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
    ]
    node = helper.make_node("Once", ["x"] * arguments, ["y"], domain="f")
    graph = helper.make_graph([node], "g", ports, [value("y", TensorProto.FLOAT, None)])
    sets = [helper.make_opsetid("", 20), helper.make_opsetid("f", 1)]
    return helper.make_model(graph, opset_imports=sets, functions=[function])


def test_a_call_that_does_not_fit_its_function_is_uncounted(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    for arguments, operators in ((1, ["Relu"]), (2, ["f::Once"])):
        path.write_bytes(calling(arguments).SerializeToString())
        found = describe(path)
        assert [node.operator for node in found.nodes] == operators
        assert [each.operator for each in found.uncounted] == [each for each in operators if each != "Relu"]


def test_a_function_that_calls_itself_is_uncounted(tmp_path: Path) -> None:
    model = calling(1)
    model.functions[0].node[0].op_type = "Once"
    model.functions[0].node[0].domain = "f"
    model.functions[0].opset_import.append(helper.make_opsetid("f", 1))
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert [each.operator for each in describe(path).uncounted] == ["f::Once"]


def test_what_is_no_tensor_is_named_by_its_kind(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(calling(1).SerializeToString())
    found = describe(path)
    assert found.inputs[1] == GraphPort("s", "sequence", ("…",))
    assert found.outputs == (GraphPort("y", "float32", ("…",)),)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4))
def test_damage_is_described_or_refused(tmp_path: Path, seed: int, changes: int) -> None:
    content = bytearray(calling(1).SerializeToString())
    dice = random.Random(seed)
    for _ in range(changes):
        content[dice.randrange(len(content))] = dice.randrange(256)
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert outcome(path) in ("described", f"refused {path}")


def outcome(path: Path) -> str:
    try:
        return "described" if describe(path).bytes else "empty"
    except DataError as refusal:
        return f"refused {refusal.where}"
