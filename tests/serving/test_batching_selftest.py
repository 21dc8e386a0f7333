"""The proof that an answer in a batch is the answer alone."""

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from batching_models import dynamically_quantized, looked_up, masked_mean, mixing, session
from graphs_from_elsewhere import linear, model
from onnx import TensorProto, helper

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port, Running, Runtime
from mlctl.serving.batching.agreement import FLOAT32, HALF, difference, tolerance_of
from mlctl.serving.batching.selftest import SelfTest, selftest
from mlctl.serving.settings import Batching, Execution


def proven(graph: Running, *, workers: int | None = None, max_size: int = 8) -> SelfTest:
    return selftest(graph, Execution(workers=workers), Batching(max_size=max_size))


@pytest.mark.parametrize("workers", [None, 2])
def test_a_dense_model_is_proven_in_every_size_and_split(workers: int | None) -> None:
    found = proven(session(linear()), workers=workers)
    assert found.holds
    said = [each.what for each in found.checks]
    assert said[: found.largest_batch] == [f"batch of {size}" for size in range(1, found.largest_batch + 1)]
    assert said[found.largest_batch :] == [
        "in another order",
        "64 callers at once",
        f"one request of {2 * found.largest_batch + 1} rows",
    ]
    assert found.largest_batch > 1
    assert not found.is_padded


def test_a_model_of_texts_is_proven_with_padding() -> None:
    found = proven(session(masked_mean()))
    assert found.holds
    assert found.is_padded
    assert "padded" in [each.what for each in found.checks]


def test_a_look_up_is_the_same_to_the_bit() -> None:
    found = proven(session(looked_up()))
    assert found.holds
    assert all(each.is_bit_equal for each in found.checks)


@pytest.mark.parametrize("graph", [mixing(), dynamically_quantized(), linear(batch=3)])
def test_a_model_whose_rows_cannot_be_joined_is_served_one_by_one_and_holds(graph: onnx.ModelProto) -> None:
    found = proven(session(graph))
    assert found.holds
    assert found.largest_batch == 1


class Mixing:
    """Rows of small batches apart; in batches of more than two, the last row gets the first one's answer."""

    name: Runtime = "onnxruntime"
    detail = "NumPy"
    inputs: tuple[Port, ...] = (Port("x", "float32", (None, 4)),)
    outputs: tuple[Port, ...] = (Port("y", "float32", (None, 4)),)

    def __call__(self, inputs: Arrays, /) -> npt.NDArray[Any]:
        return self.all(inputs)[0]

    def all(self, inputs: Arrays, /) -> Arrays:
        found = inputs[0] * 2
        if len(found) > 2:
            found[-1] = found[0]
        return (found,)


def test_a_runtime_that_mixes_two_callers_up_is_found_out() -> None:
    found = proven(Mixing())
    assert not found.holds
    assert {each.what for each in found.checks if each.difference > found.tolerance} >= {"batch of 3", "batch of 8"}


def test_a_model_that_takes_no_rows_that_could_be_made_says_what_to_do() -> None:
    never = model(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        {"x": (TensorProto.FLOAT, ["rows", "columns"])},
        {"y": (TensorProto.FLOAT, ["rows", 7, 11])},
        {"shape": np.array([-1, 7, 11])},
    )
    with pytest.raises(StepFailed, match="golden requests"):
        proven(session(never))
    given = (np.arange(154, dtype=np.float32).reshape(2, 77),)
    assert selftest(session(never), Execution(), Batching(max_size=8), given=(given,)).holds


def test_a_difference_is_relative_to_the_largest_number_and_infinite_for_another_kind_of_answer() -> None:
    one = np.array([4.0, -1.0, np.nan], np.float32)
    assert difference((one,), (one.copy(),)) == 0.0
    assert difference((one,), (one + np.float32(0.5),)) == pytest.approx(0.125)
    for other in (one[:2], one.astype(np.float64), np.array([4.0, np.nan, -1.0], np.float32)):
        assert difference((one,), (other,)) == float("inf")
    assert difference((np.array([1, 2]),), (np.array([1, 3]),)) == float("inf")
    assert difference((np.array(["a"], object),), (np.array(["b"], object),)) == float("inf")
    assert difference((np.zeros(2),), (np.array([0, 1e-30]),)) == float("inf")
    assert difference((one,), (one, one)) == float("inf")


def test_the_tolerance_is_that_of_the_numbers_the_model_computes_with() -> None:
    class Half(Mixing):
        outputs = (Port("y", "float16", (None, 4)),)

    class Brain(Mixing):
        detail = "CPU in bf16"

    assert [tolerance_of(each) for each in (Mixing(), Half(), Brain())] == [FLOAT32, HALF, HALF]
