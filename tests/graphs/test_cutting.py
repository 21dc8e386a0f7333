"""A part of a graph gives its tensors the values that they have in the whole."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from mlctl.graphs.cutting import cut_to, reduce_to_extremes
from mlctl.runtime.session import OnnxSession


def model() -> onnx.ModelProto:
    """Two branches that meet, one of them through a graph inside a node that reads names from outside."""
    inner = helper.make_graph(
        [helper.make_node("Add", ["left", "shift"], ["moved"]), helper.make_node("Mul", ["moved", "own"], ["out"])],
        "inner",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(3, np.float32), "own")],
    )
    other = helper.make_graph(
        [helper.make_node("Identity", ["right"], ["same"])],
        "other",
        [],
        [helper.make_tensor_value_info("same", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["left"], "a"),
        helper.make_node("MatMul", ["z", "v"], ["right"], "b"),
        helper.make_node("If", ["flag"], ["chosen"], "c", then_branch=inner, else_branch=other),
        helper.make_node("Split", ["right"], ["r1", "r2"], "d", axis=1, num_outputs=2),
        helper.make_node("Add", ["chosen", "right"], ["y"], "e"),
    ]
    stored = {
        "w": np.random.default_rng(1).normal(size=(3, 4)),
        "v": np.random.default_rng(2).normal(size=(5, 4)),
        "shift": np.array([7]),
        "unused": np.zeros(2),
    }
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", 5]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None]) for name in ("y", "r2")],
        [
            *(numpy_helper.from_array(each.astype(np.float32), name) for name, each in stored.items()),
            numpy_helper.from_array(np.array(True), "flag"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


TENSORS = ("x", "left", "right", "chosen", "r1", "r2", "y")
ROWS = tuple(np.random.default_rng(3).normal(size=(6, size)).astype(np.float32) for size in (3, 5))


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Every tensor's value, from the whole graph with all of them as outputs."""
    whole = model()
    del whole.graph.output[:]
    whole.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in TENSORS[1:])
    found = OnnxSession(whole.SerializeToString(), threads=1).all(ROWS)
    return {"x": ROWS[0], **dict(zip(TENSORS[1:], found, strict=True))}


@settings(max_examples=40)
@given(st.lists(st.sampled_from(TENSORS), min_size=1, unique=True))
def test_any_part_gives_what_the_whole_gives(
    expected: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]], names: list[str]
) -> None:
    part = model()
    cut_to(part, names)
    session = OnnxSession(part.SerializeToString(), threads=1)
    assert [port.name for port in session.outputs] == names
    assert [port.name for port in session.inputs] == ["x", "z"]
    for name, values in zip(names, session.all(ROWS), strict=True):
        np.testing.assert_allclose(values, expected[name], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "nodes", "stored"),
    [
        ("left", ["a"], {"w"}),
        ("r1", ["b", "d"], {"v"}),
        ("chosen", ["a", "b", "c"], {"w", "v", "shift", "flag"}),
        ("x", [], set()),
    ],
)
def test_only_what_is_needed_stays(name: str, nodes: list[str], stored: set[str]) -> None:
    part = model()
    cut_to(part, [name])
    assert [node.name for node in part.graph.node] == nodes
    assert {each.name for each in part.graph.initializer} == stored


def test_extremes_and_sums_take_the_place_of_the_tensors_and_keep_what_is_no_number() -> None:
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Abs", ["x"], ["size"], "abs")],
        "numbers",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n"])],
        [onnx.helper.make_tensor_value_info("size", onnx.TensorProto.FLOAT, ["n"])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    cut_to(model, ["x", "size"])
    reduce_to_extremes(model)
    session = OnnxSession(model.SerializeToString(), threads=1)
    values = np.array([-3, 1, 2, 5], np.float32)
    assert [float(each) for each in session.all((values,))] == [-3, 5, 5, 1, 5, 11]
    # Each tensor's own stand right below it, so that it can go before the next one is made.
    assert [node.op_type for node in model.graph.node][3:] == ["Abs", "ReduceMin", "ReduceMax", "ReduceSum"]
    values[2] = np.nan
    assert np.isnan(session.all((values,))[2])
