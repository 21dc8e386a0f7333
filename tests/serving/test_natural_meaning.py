"""What a graph's own file says, and what nobody says of a foreign one."""

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlctl.digests import Json
from mlctl.errors import DataError
from mlctl.graphs.metadata import GraphInput, GraphMetadata
from mlctl.graphs.tokenizer_file import tokenizer_of
from mlctl.serving.meaning import meaning_of
from mlctl.serving.signature import InputMeaning, Meaning

GRAPH = Path("somewhere/model.onnx")
TOLD = GraphMetadata(
    task="image-classification",
    labels=("cat", "dog"),
    preprocessing=[{"scale": 16.0, "mean": [0.5], "deviation": [2]}, {"scale": 1, "mean": [], "deviation": []}],
    fingerprint="ab" * 32,
    network={"arch": "cnn"},
    inputs=(GraphInput("image", ("p", "q"), (1, 1, 2)), GraphInput("numbers", (), (3,))),
)


def test_everything_that_a_graph_of_ours_says_is_told() -> None:
    assert meaning_of(TOLD.to_properties(), GRAPH) == Meaning(
        task="image-classification",
        labels=("cat", "dog"),
        inputs=(InputMeaning("image", ("p", "q"), 16.0, (1, 1, 2)), InputMeaning("numbers", (), 1.0, (3,))),
        fingerprint="ab" * 32,
    )


def test_a_graph_that_does_not_tell_its_inputs_is_served_without_their_columns() -> None:
    properties = {key: value for key, value in TOLD.to_properties().items() if key != "mlctl.inputs"}
    found = meaning_of(properties, GRAPH)
    assert found.inputs == (InputMeaning("", scale=16.0), InputMeaning("", scale=1.0))
    assert found.labels == ("cat", "dog")


@pytest.mark.parametrize("properties", [{}, {"author": "somebody"}, {"mlctl.inputs": "nonsense"}])
def test_a_graph_of_another_tool_says_nothing(properties: dict[str, str]) -> None:
    assert meaning_of(properties, GRAPH) == Meaning()


@pytest.mark.parametrize(
    "preprocessing",
    [
        None,
        {},
        "scales",
        [1],
        [{}],
        [{"scale": 0}],
        [{"scale": -1}],
        [{"scale": True}],
        [{"scale": "1"}],
        [{"scale": 1}],
    ],
)
def test_damaged_metadata_is_a_data_error_that_names_the_file(preprocessing: Json) -> None:
    properties = replace(TOLD, preprocessing=preprocessing).to_properties()
    with pytest.raises(DataError, match="the graph's metadata") as refusal:
        meaning_of(properties, GRAPH)
    assert refusal.value.where == str(GRAPH)


@given(
    st.sampled_from(sorted(TOLD.to_properties())),
    st.text(max_size=20) | st.sampled_from(["[1e999]", "[" * 9999, "NaN"]),
)
def test_nonsense_in_place_of_metadata_is_taken_for_text_or_a_data_error(key: str, text: str) -> None:
    properties = TOLD.to_properties() | {key: text}
    if key in ("mlctl.task", "mlctl.fingerprint"):
        found = meaning_of(properties, GRAPH)
        assert text in (found.task, found.fingerprint)
        return
    try:
        found = meaning_of(properties, GRAPH)
    except DataError as refusal:
        assert refusal.where == str(GRAPH)  # noqa: PT017
    else:
        assert found.task == TOLD.task


def test_the_tokenizer_lies_beside_the_graph_or_above_a_folder_onnx(tmp_path: Path) -> None:
    for name in ("onnx", "1"):
        (tmp_path / name).mkdir()
    (tmp_path / "tokenizer.json").write_text("{}")
    assert tokenizer_of(tmp_path / "model.onnx") == tmp_path / "tokenizer.json"
    assert tokenizer_of(tmp_path / "onnx" / "model.onnx") == tmp_path / "tokenizer.json"
    assert tokenizer_of(tmp_path / "1" / "model.onnx") is None
    (tmp_path / "onnx" / "tokenizer.json").write_text("{}")
    assert tokenizer_of(tmp_path / "onnx" / "model.onnx") == tmp_path / "onnx" / "tokenizer.json"
