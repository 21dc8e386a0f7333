"""Every operator that torch computes for a graph, against ONNX's own examples, and against ONNX Runtime."""

import importlib
import pkgutil
import warnings
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from mlctl.errors import StepFailed
from mlctl.graphs.torch_graph import TorchGraph
from mlctl.graphs.torch_operators import OPERATORS
from mlctl.runtime.session import OnnxSession

RELATIVE, ABSOLUTE = 1e-5, 1e-6
"""float32 against float32 or float64 with sums in another order; the largest sums here are of 75 products near 1."""

AGAINST_RUNTIME: Final = frozenset({"AveragePool", "Cast", "CastLike", "GRU", "LayerNormalization", "MaxPool"})
"""Operators whose examples take seconds to make, or need outputs and forms that have no gradient here."""

NO_GRADIENT: Final = frozenset(
    {
        "BatchNormalization",
        "ConvTranspose",
        "DequantizeLinear",
        "Dropout",
        "GatherND",
        "LSTM",
        "QuantizeLinear",
        "Resize",
        "ScatterElements",
        "ScatterND",
    }
)
"""Operators of which some examples are refused; of all others none is."""


@cache
def modules() -> dict[str, str]:
    """Of every operator the module that makes its examples, which is as slow as the examples are many."""
    import onnx.backend.test.case.node as examples

    names = {
        module.name.rstrip("_").replace("_", ""): module.name for module in pkgutil.iter_modules(examples.__path__)
    }
    names["range"] = names["rangeop"]
    return {kind: names[kind.lower()] for kind in OPERATORS}


def examples_of(kind: str) -> list[Any]:
    """ONNX's examples of graphs of this operator alone, on numbers that torch has."""
    from onnx.backend.test.case import node as package
    from onnx.backend.test.case.node import _NodeTestCases as made

    with warnings.catch_warnings():
        # Of NumPy's, while the examples are made.
        warnings.simplefilter("ignore")
        importlib.import_module(f"{package.__name__}.{modules()[kind]}")
    return [
        each
        for each in made
        if each.model is not None
        and {node.op_type for node in each.model.graph.node} == {kind}
        and all(is_of_torch(values) for inputs, outputs in each.data_sets for values in (*inputs, *outputs))
    ]


def is_of_torch(values: Any) -> bool:
    if not isinstance(values, np.ndarray | np.generic):
        return False
    return values.dtype.kind in "bif" or values.dtype == np.uint8


def computed(model: onnx.ModelProto, inputs: list[Any]) -> tuple[npt.NDArray[Any], ...]:
    graph = TorchGraph(model)
    with torch.no_grad():
        found = graph(*(torch.from_numpy(np.array(each)) for each in inputs))
    return tuple(each.numpy() for each in (found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("kind", sorted(OPERATORS.keys() - AGAINST_RUNTIME))
def test_an_operator_answers_as_the_examples_of_onnx(kind: str) -> None:
    compared, refused = 0, []
    for example in examples_of(kind):
        for inputs, outputs in example.data_sets:
            if not inputs or any(0 in np.shape(each) for each in (*inputs, *outputs)):
                continue
            try:
                found = computed(example.model, inputs)
            except StepFailed as refusal:
                refused.append(refusal.what)
                continue
            for given, expected in zip(found, outputs, strict=True):
                assert given.shape == np.shape(expected), example.name
                np.testing.assert_allclose(
                    given.astype(np.float64),
                    np.asarray(expected, np.float64),
                    rtol=RELATIVE,
                    atol=ABSOLUTE,
                    err_msg=example.name,
                )
                compared += 1
    assert compared
    assert kind in NO_GRADIENT or not refused
    assert all(f"no gradient for the operator {kind} with " in what for what in refused)


def node_graph(kind: str, inputs: list[npt.NDArray[Any]], outputs: int = 1, **attributes: Any) -> onnx.ModelProto:
    names = [f"x{number}" for number in range(len(inputs))]
    results = [f"y{number}" for number in range(outputs)]
    ports = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(each.dtype), each.shape)
        for name, each in zip(names, inputs, strict=True)
    ]
    answers = [helper.make_tensor_value_info(results[-1], TensorProto.UNDEFINED, None)]
    graph = helper.make_graph([helper.make_node(kind, names, results, "node", **attributes)], "one", ports, answers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def normal(*shape: int, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


POOLS: Final[tuple[dict[str, Any], ...]] = (
    {"kernel_shape": [3, 3]},
    {"kernel_shape": [2, 3], "strides": [2, 1]},
    {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [2, 2], "ceil_mode": 1, "strides": [2, 2]},
)
LAST_WINDOWS: Final[tuple[dict[str, Any], ...]] = (
    {"kernel_shape": [3, 3], "pads": [2, 2, 2, 2], "strides": [3, 3]},
    {"kernel_shape": [3, 3], "pads": [2, 1, 2, 1], "strides": [3, 4]},
    {"kernel_shape": [2, 3], "pads": [0, 0, 1, 2], "strides": [4, 3]},
    {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1], "strides": [2, 2]},
)
"""With `ceil_mode`: torch has one window more than ONNX Runtime for the first three, where pads are put around."""
WEIGHTS: Final = [normal(2, 12, 4, seed=1), normal(2, 12, 4, seed=2), normal(2, 24, seed=3)]

BESIDE: Final[list[tuple[str, list[npt.NDArray[Any]], dict[str, Any]]]] = [
    *(("MaxPool", [normal(2, 3, 7, 9)], attributes) for attributes in POOLS),
    *(("AveragePool", [normal(2, 3, 7, 9)], attributes) for attributes in POOLS),
    *(("AveragePool", [normal(2, 3, 7, 9)], {**attributes, "count_include_pad": 1}) for attributes in POOLS[:4]),
    *(("MaxPool", [normal(2, 3, 7, 9)], {**attributes, "ceil_mode": 1}) for attributes in LAST_WINDOWS),
    *(
        ("AveragePool", [normal(2, 3, 7, 9)], {**attributes, "ceil_mode": 1, "count_include_pad": counted})
        for attributes in LAST_WINDOWS
        for counted in (0, 1)
    ),
    ("MaxPool", [normal(2, 3, 9)], {"kernel_shape": [3], "dilations": [2]}),
    ("AveragePool", [normal(2, 3, 5, 5, 5)], {"kernel_shape": [2, 2, 2]}),
    ("LayerNormalization", [normal(2, 5, 8), normal(8, seed=1), normal(8, seed=2)], {}),
    ("LayerNormalization", [normal(2, 5, 8), normal(8, seed=1)], {"epsilon": 1e-2}),
    ("LayerNormalization", [normal(2, 5, 8), normal(5, 8, seed=1), normal(8, seed=2)], {"axis": 1}),
    ("GRU", [normal(5, 3, 4), *WEIGHTS], {"hidden_size": 4, "direction": "bidirectional", "linear_before_reset": 1}),
    ("GRU", [normal(5, 3, 4), WEIGHTS[0][:1], WEIGHTS[1][:1]], {"hidden_size": 4, "linear_before_reset": 1}),
    ("Cast", [normal(3, 4) * 9], {"to": TensorProto.INT64}),
    ("Cast", [normal(3, 4)], {"to": TensorProto.BOOL}),
    ("CastLike", [normal(3, 4) * 9, np.zeros(1, np.int64)], {}),
]


@pytest.mark.parametrize(("kind", "inputs", "attributes"), BESIDE)
def test_an_operator_answers_as_onnx_runtime(
    kind: str, inputs: list[npt.NDArray[Any]], attributes: dict[str, Any]
) -> None:
    model = node_graph(kind, inputs, **attributes)
    (found,) = computed(model, inputs)
    expected = OnnxSession(model.SerializeToString(), threads=1)(tuple(inputs))
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=RELATIVE, atol=ABSOLUTE)


def test_every_operator_is_compared_with_something() -> None:
    assert {kind for kind, _, _ in BESIDE} == AGAINST_RUNTIME


@pytest.mark.parametrize(
    ("kind", "attributes", "what"),
    [
        ("Det", {}, "no gradient for the operator Det, node 'node'"),
        ("MaxPool", {"kernel_shape": [2, 2], "outputs": 2}, "MaxPool with the places of the largest, node 'node'"),
        ("Resize", {"mode": "cubic"}, "Resize with mode cubic at half_pixel places"),
        ("LSTM", {"hidden_size": 3, "direction": "reverse"}, "LSTM with direction reverse"),
        ("GRU", {"hidden_size": 3}, "GRU with linear_before_reset 0"),
    ],
)
def test_what_has_no_gradient_is_refused_by_name(kind: str, attributes: dict[str, Any], what: str) -> None:
    with pytest.raises(StepFailed) as refusal:
        TorchGraph(node_graph(kind, [normal(2, 3, 4, 4)], **attributes))
    assert what in refusal.value.what
    assert "another `method`" in refusal.value.next


def test_an_operator_of_another_domain_is_refused_with_its_domain() -> None:
    model = node_graph("Relu", [normal(2, 3)])
    model.graph.node[0].domain = "com.example"
    with pytest.raises(StepFailed, match=r"com\.example::Relu"):
        TorchGraph(model)


def test_before_version_13_a_softmax_is_over_all_that_follows_its_axis() -> None:
    """ONNX Runtime still reads version 12."""
    values = normal(2, 3, 4)
    model = node_graph("Softmax", [values], axis=1)
    model.opset_import[0].version = 12
    expected = OnnxSession(model.SerializeToString(), threads=1)((values,))
    np.testing.assert_allclose(computed(model, [values])[0], expected, rtol=RELATIVE, atol=ABSOLUTE)
    assert not np.allclose(computed(node_graph("Softmax", [values], axis=1), [values])[0], expected)
