"""What a graph says about itself survives the file."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.errors import DataError
from mlctl.graphs.metadata import GraphInput, GraphMetadata
from mlctl.graphs.properties import read_properties, write_properties

WHERE = Path("model.onnx")
SAMPLE = GraphMetadata(
    task="image-classification",
    labels=("Katze", "猫", 'a "quoted" one'),
    preprocessing={"scale": 16.0, "mean": [0.5]},
    fingerprint="ab" * 32,
    network={"arch": "cnn", "channels": [8, 16]},
    inputs=(GraphInput("image", ("pixel_0", "ピクセル"), (1, 1, 2)),),
)
TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def test_keys_carry_the_prefix_and_values_are_one_text_each() -> None:
    properties = SAMPLE.to_properties()
    assert list(properties) == sorted(properties)
    assert properties["mlctl.network"] == '{"arch":"cnn","channels":[8,16]}'
    assert properties["mlctl.labels"] == '["Katze","猫","a \\"quoted\\" one"]'


@given(task=TEXT, labels=st.lists(TEXT, max_size=4), preprocessing=JSON, network=JSON)
def test_metadata_survives_a_model(task: str, labels: list[str], preprocessing: None, network: None) -> None:
    inputs = tuple(GraphInput(each, tuple(labels), (1, 2)) for each in labels)
    written = GraphMetadata(task, tuple(labels), preprocessing, "00", network, inputs)
    model = onnx.ModelProto()
    write_properties(model, written.to_properties())
    again = onnx.ModelProto.FromString(model.SerializeToString())
    assert GraphMetadata.from_properties(read_properties(again), where=WHERE) == written


def test_writing_replaces_its_own_keys_and_keeps_the_others() -> None:
    model = onnx.ModelProto()
    write_properties(model, {"z": "other", "mlctl.task": "old"})
    write_properties(model, SAMPLE.to_properties())
    found = read_properties(model)
    assert found == {"z": "other"} | SAMPLE.to_properties()
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("mlctl.task", None, "has no mlctl.task"),
        ("mlctl.labels", "[", "is damaged"),
        ("mlctl.labels", "7", "is damaged"),
        ("mlctl.labels", "[1]", "labels that are not texts"),
        ("mlctl.labels", '"cat"', "labels that are not texts"),
        ("mlctl.network", "", "is damaged"),
        ("mlctl.network", "[" * 100_000, "is damaged"),
        ("mlctl.inputs", "7", "is damaged"),
        ("mlctl.inputs", '[{"name": "image"}]', "is damaged"),
        ("mlctl.inputs", '[{"name": "image", "columns": [1], "shape": [1]}]', "is damaged"),
        ("mlctl.inputs", '[{"name": "image", "columns": [], "shape": [true]}]', "is damaged"),
        ("mlctl.inputs", '[{"name": 1, "columns": [], "shape": [1]}]', "is damaged"),
    ],
)
def test_foreign_metadata_is_refused_with_the_file_named(key: str, text: str | None, message: str) -> None:
    properties = {name: value for name, value in SAMPLE.to_properties().items() if name != key}
    if text is not None:
        properties[key] = text
    with pytest.raises(DataError, match=message) as refusal:
        GraphMetadata.from_properties(properties, where=WHERE)
    assert refusal.value.where == "model.onnx"


def test_a_file_that_was_written_before_inputs_were_told_is_read_without_them() -> None:
    properties = {name: value for name, value in SAMPLE.to_properties().items() if name != "mlctl.inputs"}
    assert GraphMetadata.from_properties(properties, where=WHERE) == replace(SAMPLE, inputs=())


def test_what_a_graph_says_of_itself_is_told_without_loading_onnx() -> None:
    code = "import sys, mlctl.graphs.metadata; print('onnx' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
