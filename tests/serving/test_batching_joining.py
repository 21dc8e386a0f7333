"""Rows of several callers in one array, and back."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from batching_models import Doubling, inference, looked_up, masked_mean, session
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.openvino_session import OpenVinoSession
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching.joining import join, split
from mlctl.serving.batching.layout import Layout, layout_of
from mlctl.serving.batching.waiting import Waiting, Whole


def request(inputs: Arrays, layout: Layout) -> Waiting:
    return Waiting(inference(inputs, lambda _: None), inputs, *layout.key_of(inputs))


@st.composite
def ragged_rows(draw: st.DrawFn) -> list[npt.NDArray[np.float32]]:
    shapes = draw(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9), st.just(1)), min_size=1, max_size=6))
    whole = st.integers(0, 9).map(float)
    return [draw(arrays(np.float32, shape, elements=whole)) for shape in shapes]


@given(ragged_rows())
def test_everyone_gets_the_answer_to_his_own_rows(rows: list[npt.NDArray[np.float32]]) -> None:
    model = Doubling()
    batch = [request((each,), model.layout) for each in rows]
    answers = split(model.all(join(batch, model.layout)), batch, model.layout)
    for each, (doubled, total) in zip(rows, answers, strict=True):
        # Zeros that fill up change no sum; small whole numbers are added exactly.
        assert np.array_equal(doubled, each * 2)
        assert np.array_equal(total, each.sum(axis=(1, 2)))
        assert doubled.flags.c_contiguous


def test_one_request_alone_is_not_copied() -> None:
    model = Doubling()
    rows = np.ones((3, 4, 1), np.float32)
    batch = [request((rows,), model.layout)]
    assert join(batch, model.layout)[0] is rows
    outputs = model.all((rows,))
    assert split(outputs, batch, model.layout)[0] is outputs


def test_shorter_rows_are_filled_up_with_padding_and_their_mask_with_zeros() -> None:
    graph = session(masked_mean())
    layout = layout_of(graph.inputs, graph.outputs, 7)
    rows = [tuple(np.full((1, length), value) for value in (3, 1)) for length in (2, 4)]
    ids, mask = join([request(each, layout) for each in rows], layout)
    assert ids.tolist() == [[3, 3, 7, 7], [3, 3, 3, 3]]
    assert mask.tolist() == [[1, 1, 0, 0], [1, 1, 1, 1]]


def test_strings_are_filled_up_with_empty_ones() -> None:
    layout = Layout(True, (0,), (), (0,))
    rows = [np.full((1, length), "a", object) for length in (1, 2)]
    assert join([request((each,), layout) for each in rows], layout)[0].tolist() == [["a", ""], ["a", "a"]]


def test_requests_of_other_shapes_or_dtypes_share_no_key() -> None:
    layout = Layout(True, (), (), (0,))
    keys = [
        layout.key_of((np.zeros(shape, dtype),))[0]
        for shape, dtype in (((2, 3), "f4"), ((5, 3), "f4"), ((2, 4), "f4"), ((2, 3), "f8"), ((2, 3, 1), "f4"))
    ]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4


def test_inputs_that_differ_in_length_are_a_kind_of_their_own() -> None:
    layout = Layout(True, (0, 1), (), (0, 0))
    one = layout.key_of((np.zeros((1, 3)), np.zeros((1, 3))))
    assert (one[0], 5) == layout.key_of((np.zeros((1, 5)), np.zeros((1, 5))))
    other, length = layout.key_of((np.zeros((1, 3)), np.zeros((1, 5))))
    assert (length, other == one[0]) == (0, False)


@pytest.mark.parametrize("outputs", [(np.zeros((2, 3)),), (np.zeros(3), np.zeros(())), (np.zeros((4, 3)),)])
def test_outputs_without_the_batchs_rows_are_refused(outputs: tuple[npt.NDArray[Any], ...]) -> None:
    layout = Layout(True, (), (), (0,))
    batch = [request((np.zeros((rows, 3)),), layout) for rows in (1, 2)]
    with pytest.raises(StepFailed, match="the model answers 3 rows with"):
        split(outputs, batch, layout)


@given(st.integers(1, 40), st.integers(1, 9))
def test_a_large_request_is_put_together_again_in_its_order(rows: int, size: int) -> None:
    values = np.arange(rows * 2, dtype=np.float32).reshape(rows, 2, 1)
    model = Doubling()
    whole = Whole(inference((values,), lambda _: None), "key", 2, size)
    parts = [whole.first_part()]
    while (part := whole.part_after(parts[-1])) is not None:
        # A part that is formed into a batch again has its follower in the queue already.
        assert whole.part_after(parts[-1]) is None
        parts.append(part)
    done = [whole.take(part, model.all(part.inputs), 1.0) for part in reversed(parts)]
    assert done == [False] * (len(parts) - 1) + [True]
    assert max(part.rows for part in parts) <= size
    assert np.array_equal(whole.joined()[0], values * 2)
    assert whole.seconds == len(parts)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_answers_outlive_later_batches_of_the_same_session(runtime: str, tmp_path: Any) -> None:
    made = looked_up()
    (tmp_path / "model.onnx").write_bytes(made.SerializeToString())
    graph: OnnxSession | OpenVinoSession = (
        session(made) if runtime == "onnxruntime" else OpenVinoSession(tmp_path / "model.onnx", threads=1)
    )
    layout = layout_of(graph.inputs, graph.outputs, 0)
    batch = [request((np.full((1, length), length),), layout) for length in (3, 5)]
    answers = [each[0] for each in split(graph.all(join(batch, layout)), batch, layout)]
    copies = [each.copy() for each in answers]
    for value in range(20):
        graph.all((np.full((2, 5), value),))
    assert all(np.array_equal(each, copy) for each, copy in zip(answers, copies, strict=True))
