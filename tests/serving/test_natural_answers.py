"""What a model's outputs mean to people."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from natural_models import natural

from mlctl.errors import DataError
from mlctl.runtime.running import Port
from mlctl.serving.natural.values import Natural
from mlctl.serving.signature import Meaning

INPUT = (Port("x", "float32", (None, 2)),)


def answering(task: str, *shape: int | None, labels: tuple[str, ...] = (), name: str = "y") -> Natural:
    return natural(INPUT, (Port(name, "float32", (None, *shape)),), Meaning(task, labels))


def floats(*rows: object) -> npt.NDArray[np.float32]:
    return np.array(rows, np.float32)


def test_a_classification_is_the_label_and_every_classs_probability() -> None:
    found = answering("image-classification", 3, labels=("cat", "dog", "猫")).meant(
        (floats([0.1, 0.2, 0.7], [1, 0, 0]),)
    )
    assert found == [
        {"label": "猫", "probability": 0.7, "probabilities": {"cat": 0.1, "dog": 0.2, "猫": 0.7}},
        {"label": "cat", "probability": 1.0, "probabilities": {"cat": 1.0, "dog": 0.0, "猫": 0.0}},
    ]


def test_classes_without_names_are_called_by_their_numbers() -> None:
    (found,) = answering("image-classification", None).meant((floats([0.25, 0.75]),))
    assert found == {"label": "1", "probability": 0.75, "probabilities": {"0": 0.25, "1": 0.75}}


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_json_has_no_number_for_what_is_not_finite(bad: float) -> None:
    classes = answering("image-classification", 2, labels=("a", "b")).meant((floats([bad, 0.5], [0.5, 0.5]),))
    assert classes[0] == {"label": None, "probability": None, "probabilities": {"a": None, "b": 0.5}}
    assert classes[1] == {"label": "a", "probability": 0.5, "probabilities": {"a": 0.5, "b": 0.5}}
    assert answering("regression").meant((floats(bad, 1),)) == [{"prediction": None}, {"prediction": 1.0}]
    assert answering("embedding", 1).meant((floats([-bad]),)) == [{"embedding": [None]}]
    assert answering("language-modeling", None, 2).meant((floats([[bad, 1]]),)) == [{"next": []}]


@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_regression_is_a_number(shape: tuple[int, ...]) -> None:
    values = np.array([0.1, -3e20], np.float32).reshape(2, *shape)
    assert answering("regression", *shape).meant((values,)) == [{"prediction": 0.1}, {"prediction": -3e20}]


def test_an_embedding_is_its_numbers_whatever_their_shape() -> None:
    values = np.arange(6, dtype=np.float32).reshape(1, 3, 2) / 2
    assert answering("embedding", None, 2).meant((values,)) == [{"embedding": [[0.0, 0.5], [1.0, 1.5], [2.0, 2.5]]}]


def test_the_tokens_that_may_come_next_are_those_after_the_last_place() -> None:
    """A vocabulary that nobody can spell, and fewer tokens than are named."""
    logits = np.log(floats([[0.9, 0.05, 0.05], [0.2, 0.5, 0.3]]))
    (found,) = answering("language-modeling", None, 3).meant((logits,))
    assert isinstance(found, dict)
    assert [each["token"] for each in found["next"]] == [1, 2, 0]
    assert [each["text"] for each in found["next"]] == [None] * 3
    assert [each["probability"] for each in found["next"]] == pytest.approx([0.5, 0.3, 0.2], rel=1e-6)
    huge = answering("language-modeling", None, 2).meant((floats([[1e38, -1e38]]),))
    assert huge == [
        {"next": [{"token": 0, "text": None, "probability": 1.0}, {"token": 1, "text": None, "probability": 0.0}]}
    ]


def test_outputs_of_a_foreign_graph_are_given_by_name() -> None:
    outputs = (
        Port("scores", "float32", (None, 2)),
        Port("best", "int64", (None,)),
        Port("name", "object", (None,)),
        Port("words", "object", (None, 2)),
        Port("sure", "bool", (None, 1)),
    )
    texts = np.array([["a", b"b\xff"], ["c", "d"]], object)
    values = (
        floats([0.1, 2], [3, 4]),
        np.array([2**62, -1]),
        np.array(["é", b"x"], object),
        texts,
        np.array([[1], [0]]) > 0,
    )
    assert natural(INPUT, outputs).meant(values) == [
        {"outputs": {"scores": [0.1, 2.0], "best": 2**62, "name": "é", "words": ["a", "b\ufffd"], "sure": [True]}},
        {"outputs": {"scores": [3.0, 4.0], "best": -1, "name": "x", "words": ["c", "d"], "sure": [False]}},
    ]


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=3, max_side=4), elements=st.floats(width=32)))
def test_numbers_are_the_shortest_decimals_that_are_read_as_the_same_float32(values: npt.NDArray[np.float32]) -> None:
    found = answering("embedding", *values.shape[1:]).meant((values,))
    again: Any = json.loads(
        json.dumps([each["embedding"] for each in found if isinstance(each, dict)], allow_nan=False)
    )
    numbers = np.array(again, object).reshape(-1).tolist()
    for number, value in zip(numbers, values.reshape(-1), strict=True):
        # NumPy writes the shortest decimals too, by an algorithm of its own (Dragon4).
        assert number == (float(str(value)) if np.isfinite(value) else None)


def test_values_that_do_not_lie_in_order_are_read_in_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert answering("embedding", 2).meant((values,)) == [{"embedding": each.tolist()} for each in values]


@pytest.mark.parametrize(("labels", "shape"), [(("a", "b"), (3,)), (("a",), ())])
def test_labels_that_are_not_those_of_the_output_are_a_data_error(
    labels: tuple[str, ...], shape: tuple[int, ...]
) -> None:
    with pytest.raises(DataError, match="labels for an output of the shape"):
        answering("image-classification", *shape, labels=labels)
