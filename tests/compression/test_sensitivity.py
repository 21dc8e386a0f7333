"""Which node's integers harm the answer most."""

from math import inf
from typing import cast

import numpy as np
import onnx
import pytest
from float_graphs import Known, made, normal, perceptron
from google.protobuf.message import EncodeError
from onnx import helper

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.sensitivity import decibels, sensitivities
from mlctl.compression.quantization.serialization import serialized
from mlctl.errors import DataError, StepFailed
from mlctl.events import Event, Progress
from mlctl.runtime.answers import Arrays

WHOLE = WeightForm(is_per_channel=False)


def layered(batch: int | str) -> onnx.ModelProto:
    """Three layers; the second has one weight that is 300 times the others, which leaves those a level or none."""
    spiked = normal(6, 6, seed=3)
    spiked[0, 0] = 300
    weights = {"w0": normal(6, 6), "w1": spiked, "w2": normal(6, 6, seed=4)}
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "first"),
        helper.make_node("Tanh", ["a"], ["t"], "tanh"),
        helper.make_node("MatMul", ["t", "w1"], ["b"], "spiked"),
        helper.make_node("Tanh", ["b"], ["u"], "again"),
        helper.make_node("MatMul", ["u", "w2"], ["y"], "last"),
    ]
    return made(nodes, {"x": (onnx.TensorProto.FLOAT, [batch, 6])}, weights)


def test_the_harmful_node_comes_first_and_progress_is_told() -> None:
    model, told = layered("batch"), list[Event]()
    found = sensitivities(DynamicQuantizer(model, WHOLE), model, (normal(100, 6, seed=8),), threads=1, tell=told.append)
    assert {each.node for each in found} == {"first", "spiked", "last"}
    assert found[0].node == "spiked"
    assert found[0].decibels < 15 < 25 < found[1].decibels
    assert [each.decibels for each in found] == sorted(each.decibels for each in found)
    assert [each.done for each in told if isinstance(each, Progress)] == [1, 2, 3]


def test_only_the_node_in_question_is_quantized() -> None:
    known = perceptron()
    quantizer = DynamicQuantizer(known.model, WeightForm())
    (found,) = (
        each for each in sensitivities(quantizer, known.model, known.rows, threads=1) if each.node == "node_linear_1"
    )
    alone = quantizer.quantized(frozenset(quantizer.nodes) - {"node_linear_1"})
    expected, answers = [], []
    for start in (0, 16, 32):
        part = Known(known.model, (known.rows[0][start : start + 16],))
        expected.append(part.answers())
        answers.append(part.answers(alone))
    noise = np.concatenate(answers).astype(np.float64) - np.concatenate(expected)
    signal = np.square(np.concatenate(expected), dtype=np.float64).sum()
    assert found.decibels == pytest.approx(10 * np.log10(signal / np.square(noise).sum()))


def test_a_graph_with_a_fixed_batch_is_answered_in_it() -> None:
    model = layered(4)
    found = sensitivities(DynamicQuantizer(model, WHOLE), model, (normal(11, 6, seed=8),), threads=1)
    assert found[0].node == "spiked"
    with pytest.raises(DataError, match="3 rows are too few"):
        sensitivities(DynamicQuantizer(model, WHOLE), model, (normal(3, 6),), threads=1)


def test_equals_stand_in_the_order_of_the_graph() -> None:
    known = perceptron()
    zeros = (np.zeros((8, 16), np.float32),)
    first = sensitivities(DynamicQuantizer(known.model, WeightForm()), known.model, zeros, threads=1)
    again = sensitivities(DynamicQuantizer(known.model, WeightForm()), known.model, zeros, threads=1)
    assert first == again
    # Zeros are zeros in integers too, so that nothing moves behind the first layer's own bias.
    assert next(each for each in first if each.node == "node_linear").decibels == inf


def test_a_graph_that_protobuf_cannot_hold_is_refused() -> None:
    class Huge:
        """2.4 GB of real weights take 20 seconds; this is what protobuf says of them."""

        def SerializeToString(self) -> bytes:
            raise EncodeError("Failed to serialize proto")

    with pytest.raises(StepFailed, match="more than 2 GiB"):
        serialized(cast("onnx.ModelProto", Huge()))


@pytest.mark.parametrize(
    ("signal", "answers", "expected"),
    [
        ((np.array([3.0, 4.0]),), (np.array([3.0, 4.0]),), inf),
        ((np.array([3.0, 4.0]),), (np.array([3.0, 4.5]),), 20.0),
        ((np.array([3.0]), np.array([4.0])), (np.array([3.3]), np.array([4.4])), 20.0),
        ((np.array([3.0]),), (np.array([np.nan]),), -inf),
        ((np.array([3.0]),), (np.array([np.inf]),), -inf),
        ((np.array([0.0]),), (np.array([1.0]),), -inf),
    ],
)
def test_decibels_by_hand(signal: Arrays, answers: Arrays, expected: float) -> None:
    assert decibels(signal, answers) == pytest.approx(expected)


def test_large_answers_are_compared_on_fewer_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    model = layered("batch")
    rows = normal(64, 6, seed=8)
    monkeypatch.setattr("mlctl.compression.quantization.sensitivity.MOST_NUMBERS", 6 * 32)
    found = sensitivities(DynamicQuantizer(model, WHOLE), model, (rows,), threads=1)
    monkeypatch.undo()
    assert found == sensitivities(DynamicQuantizer(model, WHOLE), model, (rows[:32],), threads=1)


def test_noise_is_added_up_in_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    signal = normal(40, 3, seed=1)
    answers = signal + 0.1 * normal(40, 3, seed=2)
    whole = decibels((signal,), (answers,))
    monkeypatch.setattr("mlctl.compression.quantization.sensitivity._CHUNK_NUMBERS", 4)
    assert decibels((signal,), (answers,)) == pytest.approx(whole, abs=1e-9)
