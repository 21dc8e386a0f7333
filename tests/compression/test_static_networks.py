"""Networks of many shapes answer alike with integers, and with some of them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from float_graphs import normal
from onnx import TensorProto, helper, numpy_helper
from static_graphs import IMAGE, OPTIONS, ROW, Written, decibels, made, quantizer_of


def conv(inputs: list[str], output: str, name: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node("Conv", inputs, [output], name, pads=[1, 1, 1, 1], **attributes)


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], output, **attributes)


def grouped() -> onnx.ModelProto:
    nodes = [conv(["x", "w"], "a", "grouped", group=2), conv(["a", "v", "b"], "y", "depthwise", group=8)]
    return made(nodes, IMAGE, {"w": normal(8, 2, 3, 3), "v": normal(8, 1, 3, 3), "b": normal(8)})


def transposed() -> onnx.ModelProto:
    up = helper.make_node("ConvTranspose", ["a", "v", "b"], ["y"], "up", strides=[2, 2])
    stored = {"w": normal(6, 4, 3, 3), "v": normal(6, 3, 2, 2), "b": normal(3)}
    return made([conv(["x", "w"], "a", "down"), up], IMAGE, stored)


def residual() -> onnx.ModelProto:
    nodes = [
        conv(["x", "w"], "a", "one"),
        node("Relu", ["a"], "r"),
        conv(["r", "v"], "c", "two"),
        node("Add", ["c", "x"], "sum"),
        node("Relu", ["sum"], "y"),
    ]
    return made(nodes, IMAGE, {"w": normal(4, 4, 3, 3), "v": normal(4, 4, 3, 3, seed=2)})


def branches() -> onnx.ModelProto:
    nodes = [
        conv(["x", "w"], "a", "one"),
        conv(["x", "v"], "c", "two"),
        node("Concat", ["a", "c"], "y", axis=1),
    ]
    return made(nodes, IMAGE, {"w": normal(4, 4, 3, 3), "v": 3 * normal(4, 4, 3, 3, seed=2)})


def normalized() -> onnx.ModelProto:
    nodes = [
        conv(["x", "w"], "a", "one"),
        node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], "n"),
        node("Relu", ["n"], "r"),
        conv(["r", "v"], "y", "two"),
    ]
    stored = {
        "w": normal(4, 4, 3, 3),
        "v": normal(4, 4, 3, 3, seed=2),
        "scale": np.abs(normal(4)),
        "shift": normal(4, seed=3),
        "mean": normal(4, seed=4),
        "variance": np.abs(normal(4, seed=5)) + 1,
    }
    return made(nodes, IMAGE, stored)


def shared() -> onnx.ModelProto:
    """One weight for two nodes, and one bias for two."""
    nodes = [conv(["x", "w", "b"], "a", "one"), node("Relu", ["a"], "r"), conv(["r", "w", "b"], "y", "two")]
    return made(nodes, IMAGE, {"w": normal(4, 4, 3, 3), "b": normal(4)})


def pooled() -> onnx.ModelProto:
    """What passes integers on, from one convolution to the next."""
    nodes = [
        conv(["x", "w"], "a", "one"),
        node("Clip", ["a", "zero", "six"], "c"),
        node("MaxPool", ["c"], "m", kernel_shape=[2, 2], strides=[2, 2]),
        node("Transpose", ["m"], "t", perm=[0, 1, 3, 2]),
        node("AveragePool", ["t"], "p", kernel_shape=[2, 2]),
        conv(["p", "v"], "y", "two"),
    ]
    stored = {
        "w": normal(4, 4, 3, 3),
        "v": normal(4, 4, 3, 3, seed=2),
        "zero": np.array(0, np.float32),
        "six": np.array(6, np.float32),
    }
    return made(nodes, IMAGE, stored)


SHAPES = {
    "grouped": (grouped, ("grouped", "depthwise")),
    "transposed": (transposed, ("down", "up")),
    "residual": (residual, ("one", "two", "sum")),
    "branches": (branches, ("one", "two", "y")),
    "normalized": (normalized, ("one", "two")),
    "shared": (shared, ("one", "two")),
    "pooled": (pooled, ("one", "two")),
}


@pytest.mark.parametrize("is_per_channel", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_networks_of_many_shapes_answer_alike(name: str, is_per_channel: bool, tmp_path: Path) -> None:
    make, expected = SHAPES[name]
    model, rows = make(), (normal(32, 4, 8, 8, seed=8),)
    quantizer = quantizer_of(model, rows, tmp_path, replace(OPTIONS, is_per_channel=is_per_channel))
    assert quantizer.nodes == expected
    written = quantizer.quantized()
    graph = Written(written)
    assert all(graph.is_integer_node(each) for each in expected)
    assert decibels(model, written, rows) > 25
    for each in expected:
        assert decibels(model, quantizer.quantized(frozenset(expected) - {each}), rows) > 25


def test_a_weight_that_one_of_two_nodes_keeps_in_float_is_there_in_both_forms(tmp_path: Path) -> None:
    model, rows = shared(), (normal(32, 4, 8, 8, seed=8),)
    written = quantizer_of(model, rows, tmp_path).quantized(frozenset({"two"}))
    graph = Written(written)
    assert {"w", "w_quantized"} <= set(graph.stored)
    assert "w" in graph.nodes["two"].input
    assert graph.is_integer_node("one")
    assert decibels(model, written, rows) > 25


def with_choice() -> onnx.ModelProto:
    """A graph with graphs inside: which of two is taken depends on the rows."""
    then = helper.make_graph(
        [helper.make_node("Mul", ["h", "two"], ["doubled"])],
        "then",
        [],
        [helper.make_tensor_value_info("doubled", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(2, np.float32), "two")],
    )
    other = helper.make_graph(
        [helper.make_node("MatMul", ["h", "inner"], ["turned"])],
        "other",
        [],
        [helper.make_tensor_value_info("turned", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(normal(8, 8, seed=5), "inner")],
    )
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], "one"),
        helper.make_node("ReduceMax", ["x"], ["largest"], "max", keepdims=0),
        helper.make_node("Greater", ["largest", "limit"], ["is_large"], "compare"),
        helper.make_node("If", ["is_large"], ["c"], "choose", then_branch=then, else_branch=other),
        helper.make_node("MatMul", ["c", "v"], ["y"], "two"),
    ]
    stored = {"w": normal(6, 8), "v": normal(8, 3, seed=4), "limit": np.array(2, np.float32)}
    return made(nodes, ROW, stored)


def test_graphs_inside_a_node_stay_as_they_are(tmp_path: Path) -> None:
    model, rows = with_choice(), (normal(64, 6, seed=8),)
    quantizer = quantizer_of(model, rows, tmp_path)
    assert quantizer.nodes == ("one", "two")
    written = quantizer.quantized()
    choose = Written(written).nodes["choose"]
    before = next(node for node in model.graph.node if node.name == "choose")
    assert [each.g for each in choose.attribute] == [each.g for each in before.attribute]
    for scale in (0.1, 1.0):
        assert decibels(model, written, (rows[0] * np.float32(scale),)) > (5 if scale < 1 else 25)
