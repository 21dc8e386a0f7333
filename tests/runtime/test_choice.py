"""Which runtime is taken, and what it takes for OpenVINO's answers to stand for ONNX Runtime's."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import TensorProto, helper, numpy_helper
from scipy.spatial.distance import cosine

from mlctl.errors import DataError
from mlctl.runtime.choice import Choice, Likeness, alike, choose_runtime

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
ROWS = (np.random.default_rng(0).normal(0, 1, (600, 8)).astype(np.float32),)


def graph(path: Path, nodes: list[onnx.NodeProto], *, kind: int = FLOAT, domain: str = "") -> Path:
    """A file with these nodes from `x` [batch, 8] to `y` float32 [batch, 8], and a few constants."""
    constants = [
        numpy_helper.from_array(np.random.default_rng(1).normal(0, 1, (8, 8)).astype(np.float32), "w"),
        numpy_helper.from_array(np.array([1 << 20], np.int64), "large"),
    ]
    opsets = [helper.make_opsetid("", 20), *([helper.make_opsetid(domain, 1)] if domain else [])]
    body = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", kind, ["batch", 8])],
        [helper.make_tensor_value_info("y", FLOAT, ["batch", 8])],
        constants,
    )
    onnx.save(helper.make_model(body, ir_version=10, opset_imports=opsets), path)
    return path


def dense(path: Path) -> Path:
    return graph(path, [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"])])


def test_where_the_answers_are_near_enough_the_faster_is_taken(tmp_path: Path) -> None:
    found = choose_runtime(dense(tmp_path / "model.onnx"), ROWS, threads=1, decision="argmax", batches=(1, 4))
    assert found.likeness is not None
    assert found.likeness.is_enough
    assert found.ratio is not None
    assert found.runtime == ("openvino" if found.ratio > 1 else "onnxruntime")
    assert f"is {found.ratio:.2f} x as fast as ONNX Runtime" in found.why
    assert "of the decisions are the same" in found.why


def test_answers_that_are_wrong_are_not_timed(tmp_path: Path) -> None:
    """OpenVINO multiplies whole numbers of 64 bits in 32, and these products need 40."""
    nodes = [helper.make_node("Mul", ["x", "large"], ["h"]), helper.make_node("Cast", ["h"], ["y"], to=FLOAT)]
    path = graph(tmp_path / "model.onnx", nodes, kind=INT64)
    rows = (np.random.default_rng(0).integers(-(1 << 20), 1 << 20, (50, 8)),)
    found = choose_runtime(path, rows, threads=1, decision="none")
    assert (found.runtime, found.ratio) == ("onnxruntime", None)
    assert found.likeness is not None
    assert found.likeness.cosine < 0.9
    assert found.why.startswith("OpenVINO answers otherwise: the cosine of their answers is ")
    assert "decisions" not in found.why


def test_a_graph_that_openvino_cannot_run_is_left_to_onnx_runtime(tmp_path: Path) -> None:
    node = helper.make_node("QuickGelu", ["x"], ["h"], domain="com.microsoft")
    distances = helper.make_node("CDist", ["h", "w"], ["y"], domain="com.microsoft", metric="euclidean")
    path = graph(tmp_path / "model.onnx", [node, distances], domain="com.microsoft")
    found = choose_runtime(path, ROWS, threads=1, decision="argmax")
    assert (found.runtime, found.ratio, found.likeness) == ("onnxruntime", None, None)
    assert "CDist" in found.why


def test_without_openvino_there_is_no_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    found = choose_runtime(dense(tmp_path / "model.onnx"), ROWS, threads=1, decision="argmax")
    assert found == Choice("onnxruntime", "OpenVINO is not installed")


def test_without_rows_nothing_can_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows"):
        choose_runtime(dense(tmp_path / "model.onnx"), (ROWS[0][:0],), threads=1, decision="argmax")


@given(
    arrays(np.float32, st.just((5, 3)), elements=st.floats(0.125, 8, width=32)),
    arrays(np.float32, st.just((5, 3)), elements=st.floats(-8, 8, width=32)),
)
def test_the_cosine_is_that_of_all_answers_together(a: npt.NDArray[Any], noise: npt.NDArray[Any]) -> None:
    b = a + noise * np.float32(0.01)
    # SciPy computes in the dtype that it is given, and float32 is off by 6e-8.
    expected = 1 - cosine(a.ravel().astype(np.float64), b.ravel().astype(np.float64))
    assert alike(a, b, "none").cosine == pytest.approx(expected, abs=1e-12)


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=3), elements=st.floats(-100, 100, width=32)))
def test_every_answer_is_like_itself(answers: npt.NDArray[Any]) -> None:
    found = alike(answers, answers.copy(), "argmax")
    assert found.is_enough
    assert found.agreement == 1


def test_decisions_are_counted_by_row() -> None:
    expected = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5], [0.2, 0.8]])
    given = np.array([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5], [0.2, 0.8]])
    assert alike(expected, given, "argmax").agreement == 0.75


@pytest.mark.parametrize(
    ("likeness", "enough"),
    [
        (Likeness(0.9999, 0.99), True),
        (Likeness(0.9999, None), True),
        (Likeness(0.99989, 1.0), False),
        (Likeness(1.0, 0.989), False),
        (Likeness(0.5, None), False),
    ],
)
def test_both_bounds_must_hold(likeness: Likeness, enough: bool) -> None:
    assert likeness.is_enough == enough


@pytest.mark.parametrize("decision", ["argmax", "none"])
def test_another_shape_is_not_alike_at_all(decision: Any) -> None:
    assert not alike(np.ones((2, 3)), np.ones((2, 1)), decision).is_enough


def test_nothing_but_zeros_is_like_itself_alone() -> None:
    assert alike(np.zeros((2, 1)), np.zeros((2, 1)), "none").is_enough
    assert not alike(np.zeros((2, 1)), np.ones((2, 1)), "none").is_enough


def test_every_place_of_a_row_is_a_decision() -> None:
    expected = np.eye(3)[[[0, 1, 2, 0], [1, 1, 2, 2]]]
    given = np.eye(3)[[[0, 1, 2, 1], [1, 1, 2, 2]]]
    assert alike(expected, given, "argmax").agreement == 7 / 8


def test_rows_with_many_numbers_are_compared_on_fewer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The products of the first two rows fit into the 32 bits that OpenVINO has, those of the others do not."""
    nodes = [helper.make_node("Mul", ["x", "large"], ["h"]), helper.make_node("Cast", ["h"], ["y"], to=FLOAT)]
    path = graph(tmp_path / "model.onnx", nodes, kind=INT64)
    rows = np.full((50, 8), 1 << 20)
    rows[:2] = 3
    assert choose_runtime(path, (rows,), threads=1, decision="none").ratio is None
    monkeypatch.setattr("mlctl.runtime.choice.MOST_NUMBERS", 16)
    found = choose_runtime(path, (rows,), threads=1, decision="none", batches=(1,))
    assert found.likeness is not None
    assert found.likeness.is_enough
    assert found.ratio is not None
