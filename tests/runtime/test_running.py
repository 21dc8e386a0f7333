"""Tokens are stored in as few bits as they need; graphs take them as int64."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import StepFailed
from mlctl.runtime.openvino_session import OpenVinoSession
from mlctl.runtime.running import takes, widened
from mlctl.runtime.session import OnnxSession

VECTORS = np.arange(140_000, dtype=np.float32).reshape(70_000, 2)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that looks up tokens int64 [batch, 3] in a table of 70,000 vectors of 2 numbers."""
    made = helper.make_graph(
        [helper.make_node("Gather", ["table", "tokens"], ["vectors"])],
        "lookup",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", 3])],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", 3, 2])],
        [numpy_helper.from_array(VECTORS, "table")],
    )
    path = tmp_path_factory.mktemp("lookup") / "model.onnx"
    onnx.save(helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize("runtime", [OnnxSession, OpenVinoSession])
@pytest.mark.parametrize(("dtype", "largest"), [("uint8", 255), ("uint16", 65_535), ("uint32", 69_999), ("int64", 9)])
def test_tokens_are_widened_to_what_the_graph_takes(graph: Path, runtime: Any, dtype: str, largest: int) -> None:
    tokens = np.array([[0, 1, largest], [largest, 2, 3]], dtype)
    found = runtime(graph, threads=1)((tokens,))
    assert np.array_equal(found, VECTORS[tokens.astype(np.int64)])


@pytest.mark.parametrize("runtime", [OnnxSession, OpenVinoSession])
@pytest.mark.parametrize("tokens", [np.zeros((1, 3), np.float32), np.zeros((1, 3), np.uint64), np.zeros((1, 3), bool)])
def test_nothing_else_is_taken_for_tokens(graph: Path, runtime: Any, tokens: npt.NDArray[Any]) -> None:
    with pytest.raises(StepFailed, match="cannot answer this batch"):
        runtime(graph, threads=1)((tokens,))


def test_a_dtype_takes_itself_and_tokens_that_all_fit() -> None:
    given = ("uint8", "uint16", "uint32", "uint64", "int32", "float32", "bfloat16")
    assert [each for each in given if takes("int64", each)] == ["uint8", "uint16", "uint32"]
    assert [each for each in given if takes("int32", each)] == ["uint8", "uint16", "int32"]
    assert [each for each in given if takes("float32", each)] == ["float32"]
    assert [each for each in given if takes("bfloat16", each)] == ["bfloat16"]


def test_what_needs_no_widening_is_not_copied() -> None:
    for array, wanted in ((np.zeros(2, np.int64), "int64"), (np.zeros(2, np.uint8), "float32")):
        assert widened(array, wanted) is array
