"""Which token fills up shorter rows, and that it is the model's own."""

import asyncio
import json
import time
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from batching_models import inference, masked_mean, session, table
from graphs_from_elsewhere import model
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from sentence_models import tokenizer

from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching.joining import join
from mlctl.serving.batching.layout import layout_of
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.loading import LoadedModel, load_version, padding_of
from mlctl.serving.natural.padding import padding_token
from mlctl.serving.refusals import Refused
from mlctl.serving.settings import Execution, ServerSettings
from mlctl.serving.shelf import FileVersion

PAD = 150


def own_mask() -> onnx.ModelProto:
    """ids [rows, tokens] to the mean vector of those that are not PAD, [rows, 4]; it is told no mask."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Equal", ["ids", "pad"], ["is_pad"]),
        helper.make_node("Not", ["is_pad"], ["is_real"]),
        helper.make_node("Cast", ["is_real"], ["weights"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["mean"]),
    ]
    return model(
        nodes,
        {"ids": (TensorProto.INT64, ["rows", "tokens"])},
        {"mean": (TensorProto.FLOAT, ["rows", 4])},
        {"table": table(200), "pad": np.array(PAD), "last": np.array([2]), "middle": np.array([1])},
    )


def saved(folder: Path, graph: onnx.ModelProto, told: object) -> Path:
    """The graph, with this in the tokenizer's file beside it."""
    onnx.save(graph, folder / "model.onnx")
    (folder / "tokenizer.json").write_text(json.dumps(told))
    return folder / "model.onnx"


def loaded(graph: Path) -> LoadedModel:
    settings = ServerSettings(execution=Execution(workers=1))
    return load_version(FileVersion("m", 1, graph), settings)


def means(ids: list[npt.NDArray[np.int64]]) -> npt.NDArray[np.float32]:
    return np.stack([table(200)[each].mean(axis=0) for each in ids])


def test_a_model_that_knows_its_padding_alone_is_given_rows_of_any_length_in_one_batch(tmp_path: Path) -> None:
    it = loaded(saved(tmp_path, own_mask(), {"padding": {"pad_id": PAD}}))
    assert it.batcher.costs.can_pad
    random = np.random.default_rng(0)
    ids = [random.integers(0, PAD, length) for length in (5, 6, 7, 8, 8, 9, 10, 11)]
    found: dict[int, Arrays | Refused] = {}

    async def ask() -> None:
        until = time.monotonic() + 60
        for place, each in enumerate(ids):
            it.submit(inference((each[np.newaxis],), partial(found.__setitem__, place), until))
        await it.retire()

    asyncio.run(ask())
    assert it.statistics.batches < len(ids)
    rows = []
    for place in range(len(ids)):
        answer = found[place]
        assert not isinstance(answer, Refused), answer.what
        rows.append(answer[0][0])
    # Sums of at most eleven numbers of about 1 in float32, in another order.
    np.testing.assert_allclose(np.stack(rows), means(ids), rtol=1e-5, atol=1e-6)


def test_with_another_token_the_same_model_is_never_padded(tmp_path: Path) -> None:
    it = loaded(saved(tmp_path, own_mask(), {"padding": {"pad_id": 1}}))
    assert not it.batcher.costs.can_pad
    asyncio.run(it.retire())


@given(pad=st.integers(0, 199))
def test_where_there_is_a_mask_the_answer_does_not_depend_on_the_token(pad: int) -> None:
    graph = session(masked_mean())
    layout = layout_of(graph.inputs, graph.outputs, pad)
    ids = [np.arange(1, 1 + length) for length in (3, 9)]
    batch = []
    for each in ids:
        inputs = (each[np.newaxis], np.ones((1, len(each)), np.int64))
        batch.append(Waiting(inference(inputs, lambda _: None), inputs, *layout.key_of(inputs)))
    joined = join(batch, layout)
    assert joined[0][0].tolist() == [1, 2, 3, *[pad] * 6]
    assert joined[1][0].tolist() == [1, 1, 1, *[0] * 6]
    np.testing.assert_allclose(graph(joined), means(ids), rtol=1e-5, atol=1e-6)


def test_types_and_positions_of_tokens_are_filled_up_with_zeros() -> None:
    names = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "segment_ids")
    ports = tuple(Port(name, "int64", (None, None)) for name in names)
    scores = Port("scores", "float32", (None, None))
    assert layout_of((*ports, scores), (scores,), 7).pads == (7, 0, 0, 0, 0, 0)


def special(number: int, content: str, *, is_special: bool = True) -> dict[str, object]:
    return {"id": number, "content": content, "special": is_special}


@pytest.mark.parametrize(
    ("told", "token"),
    [
        ({"padding": {"pad_id": 7, "pad_token": "<pad>"}, "added_tokens": [special(1, "[PAD]")]}, 7),
        ({"padding": None, "added_tokens": [special(0, "<s>"), special(1, "<pad>")]}, 1),
        ({"padding": None, "added_tokens": [special(3, "[PAD]")]}, 3),
        ({"padding": None, "added_tokens": [special(4, "<|image_pad|>"), special(5, "<|pad|>")]}, 5),
        ({"padding": None, "added_tokens": [special(6, "pad", is_special=False)]}, 0),
        ({"padding": None, "added_tokens": []}, 0),
        ({}, 0),
    ],
)
def test_the_token_is_the_one_that_the_tokenizer_names(tmp_path: Path, told: object, token: int) -> None:
    graph = saved(tmp_path, masked_mean(), told)
    assert padding_token(tmp_path / "tokenizer.json") == token
    assert padding_of(OnnxSession(graph, threads=1), graph) == token


def test_the_token_is_the_one_that_the_tokenizers_library_writes(tmp_path: Path) -> None:
    made = tokenizer()
    made.enable_padding(pad_id=11, pad_token="!")
    made.save(str(tmp_path / "tokenizer.json"))
    assert padding_token(tmp_path / "tokenizer.json") == 11
    made.no_padding()
    made.add_special_tokens(["[CLS]", "[PAD]"])
    made.save(str(tmp_path / "tokenizer.json"))
    assert padding_token(tmp_path / "tokenizer.json") == made.token_to_id("[PAD]") == 0


@pytest.mark.parametrize(
    "told", ["[1]", '{"padding": {"pad_id": -1}}', '{"padding": {"pad_id": true}}', '{"padding": {"pad_id": 1e3}}', "{"]
)
def test_what_is_no_tokenizer_is_named(tmp_path: Path, told: str) -> None:
    (tmp_path / "tokenizer.json").write_text(told)
    with pytest.raises(DataError, match="no tokenizer that can be used") as refused:
        padding_token(tmp_path / "tokenizer.json")
    assert refused.value.where == str(tmp_path / "tokenizer.json")
