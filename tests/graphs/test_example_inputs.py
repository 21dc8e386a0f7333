"""Inputs that are made up, and rows that fit or do not."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from mlctl.errors import DataError
from mlctl.graphs.example_inputs import GraphInputs

Port = tuple[str, int, Sequence[int | str | None] | None]
TEXT: tuple[Port, ...] = (("ids", TensorProto.INT64, ["b", "t"]), ("mask", TensorProto.BOOL, ["b", "t"]))
IMAGE: tuple[Port, ...] = (("image", TensorProto.FLOAT, [None, 3, 4]), ("scale", TensorProto.FLOAT16, []))


def inputs_of(folder: Path, ports: Sequence[Port]) -> GraphInputs:
    values = [helper.make_tensor_value_info(*port) for port in ports]
    graph = helper.make_graph([helper.make_node("Identity", [ports[0][0]], ["y"])], "g", values, [])
    graph.output.append(helper.make_tensor_value_info("y", ports[0][1], None))
    path = folder / "model.onnx"
    onnx.save(helper.make_model(graph), path)
    return GraphInputs.of(path)


def test_sizes_are_those_that_the_graph_states(tmp_path: Path) -> None:
    graph = inputs_of(tmp_path, TEXT)
    ids, mask = graph.generated(2, 7)
    assert (ids.dtype.name, ids.shape, mask.dtype.name, mask.shape) == ("int64", (2, 7), "bool", (2, 7))
    assert (ids == 1).all()
    assert mask.all()


def test_floats_are_normal_and_the_same_every_time(tmp_path: Path) -> None:
    graph = inputs_of(tmp_path, IMAGE)
    image, scale = graph.generated(100, 1)
    assert (image.dtype.name, image.shape, scale.dtype.name, scale.shape) == ("float32", (100, 3, 4), "float16", ())
    # 1,200 numbers: the mean has a deviation of 0.03, the deviation one of 0.02.
    assert abs(image.mean()) < 0.15
    assert abs(image.std() - 1) < 0.1
    assert np.array_equal(image, graph.generated(100, 1)[0])


def test_a_batch_that_is_fixed_is_the_only_one(tmp_path: Path) -> None:
    graph = inputs_of(tmp_path, [("x", TensorProto.FLOAT, [4, 2])])
    graph.require_batch(4)
    with pytest.raises(DataError, match="it takes batches of 4 alone, not of 1") as refusal:
        graph.require_batch(1)
    assert "--batch 4" in refusal.value.next


@pytest.mark.parametrize(
    ("port", "message"),
    [(("x", TensorProto.STRING, ["b"]), "of type string"), (("x", TensorProto.FLOAT, None), "no stated shape")],
)
def test_what_nothing_can_be_made_up_for_is_refused(tmp_path: Path, port: Port, message: str) -> None:
    with pytest.raises(DataError, match=message):
        inputs_of(tmp_path, [port]).require_batch(1)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ((np.zeros((5, 9), np.int64), np.ones((5, 9), np.bool_)), ""),
        ((np.zeros((5, 9), np.int64),), "it takes 2 inputs, the data has 1"),
        (
            (np.zeros((5, 9), np.int32), np.ones((5, 9), np.bool_)),
            "ids is int64 [t], the data's rows are int32 [9]",
        ),
        (
            (np.zeros((5, 9), np.int64), np.ones((5, 9, 1), np.bool_)),
            "mask is bool [t], the data's rows are bool [9, 1]",
        ),
    ],
)
def test_rows_fit_or_say_why_not(tmp_path: Path, rows: tuple[np.ndarray[tuple[int, ...]], ...], message: str) -> None:
    assert inputs_of(tmp_path, TEXT).misfit(rows) == message
