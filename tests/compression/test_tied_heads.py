"""A head that shares its embedding, in static quantization."""

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.compression.quantization.serialization import serialized
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import Range
from mlctl.compression.quantization.tied_heads import store_turned
from mlctl.runtime.session import OnnxSession

VOCABULARY, WIDTH = 300, 16
OPTIONS = StaticOptions(choose_scheme("auto", "auto", ("avx512_vnni",)))


def table() -> NDArray[np.float32]:
    return np.random.default_rng(1).standard_normal((VOCABULARY, WIDTH)).astype(np.float32)


def tied(perm: list[int] | None = None, *, looks_up: bool = True) -> onnx.ModelProto:
    """Tokens int64 [n] (or vectors [n, width]) to logits [n, vocabulary] by one table."""
    attributes: dict[str, Any] = {} if perm is None else {"perm": perm}
    first = helper.make_node("Gather" if looks_up else "Identity", ["table", "x"] if looks_up else ["x"], ["h"], "rows")
    nodes = [
        first,
        helper.make_node("Transpose", ["table"], ["turned"], "turn", **attributes),
        helper.make_node("MatMul", ["h", "turned"], ["logits"], "head"),
    ]
    port = helper.make_tensor_value_info
    given = port("x", TensorProto.INT64, ["n"]) if looks_up else port("x", TensorProto.FLOAT, ["n", WIDTH])
    graph = helper.make_graph(
        nodes, "tied", [given], [port("logits", TensorProto.FLOAT, ["n", VOCABULARY])],
        [numpy_helper.from_array(table(), "table")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.parametrize("perm", [None, [1, 0]])
def test_a_turned_matrix_is_stored_as_it_is_used(perm: list[int] | None) -> None:
    model, tokens = tied(perm), (np.arange(5),)
    before = OnnxSession(serialized(model), threads=1)(tokens)
    store_turned(model)
    assert [node.op_type for node in model.graph.node] == ["Gather", "MatMul"]
    assert {each.name: list(each.dims) for each in model.graph.initializer} == {
        "table": [VOCABULARY, WIDTH],
        "turned": [WIDTH, VOCABULARY],
    }
    np.testing.assert_array_equal(OnnxSession(serialized(model), threads=1)(tokens), before)


def test_one_that_nobody_looks_up_is_stored_once() -> None:
    model = tied(looks_up=False)
    store_turned(model)
    assert [each.name for each in model.graph.initializer] == ["turned"]


def test_a_matrix_that_keeps_its_order_is_left_alone() -> None:
    model = tied([0, 1])
    before = model.SerializeToString()
    store_turned(model)
    assert model.SerializeToString() == before


def test_the_head_becomes_integers() -> None:
    model, tokens = tied(), (np.arange(VOCABULARY),)
    wanted = tensors_to_calibrate(model, OPTIONS)
    assert wanted == ("h",)
    quantizer = StaticQuantizer(model, {"h": Range(-4.0, 4.0)}, OPTIONS)
    assert quantizer.nodes == ("head",)
    expected, given = (OnnxSession(serialized(each), threads=1)(tokens) for each in (model, quantizer.quantized()))
    integers = [each for each in quantizer.quantized().graph.initializer if each.data_type == TensorProto.INT8]
    assert [WIDTH, VOCABULARY] in [list(each.dims) for each in integers]
    # Both factors are rounded to about 1 part in 120 of their range, 16 products of order 1 are added: some hundredths.
    assert np.abs(given - expected).std() < 0.02 * expected.std()
    assert [node.op_type for node in model.graph.node] == ["Gather", "Transpose", "MatMul"]
