"""Texts, sent in place of tokens."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Lab
from hypothesis import given
from hypothesis import strategies as st
from natural_models import natural, served
from sentence_models import PORTS, WORDS, encoder, save_encoder, tokenizer

from mlctl.data.prepared import PreparedData
from mlctl.data.token_text import TokenText
from mlctl.errors import DataError
from mlctl.runtime.running import Port
from mlctl.serving.natural.values import Natural
from mlctl.serving.refusals import Malformed, WrongMedia
from mlctl.serving.signature import InputMeaning, Meaning

OUTPUT = (Port("vector", "float32", (None, 4)),)


def reader(
    folder: Path, *names: str, dtype: str = "int64", length: int | None = None, truncation: int | None = None
) -> Natural:
    """The natural inputs of a model with such inputs, and a tokenizer beside it."""
    tokenizer(truncation).save(str(folder / "tokenizer.json"))
    ports = tuple(Port(name, dtype, (None, length)) for name in names or PORTS)
    return natural(ports, OUTPUT, Meaning(tokenizer=folder / "tokenizer.json"))


def test_a_text_becomes_the_tokens_that_the_tokenizer_makes_and_no_padding(tmp_path: Path) -> None:
    found = reader(tmp_path)
    assert found.kinds == {"text"}
    first, second = found.from_texts(["The cats sat!", ""])
    ids, mask, types = first
    assert [WORDS[each] for each in ids[0]] == ["[CLS]", "the", "cat", "##s", "sat", "!", "[SEP]"]
    assert (mask.tolist(), types.tolist()) == ([[1] * 7], [[0] * 7])
    assert {each.dtype for each in first} == {np.dtype(np.int64)}
    assert second[0].tolist() == [[2, 3]]


def test_tokens_come_in_the_order_and_the_dtype_of_the_ports(tmp_path: Path) -> None:
    ((mask, ids),) = reader(tmp_path, "attention_mask", "input_ids", dtype="int32").from_texts(["a mat"])
    assert (mask.tolist(), ids.tolist()) == ([[1, 1, 1, 1]], [[2, 8, 9, 3]])
    assert mask.dtype == np.int32


@pytest.mark.parametrize(("truncation", "tokens"), [(8, 8), (None, 512)])
def test_a_long_text_is_cut_as_the_tokenizer_is_set_else_at_512(
    tmp_path: Path, truncation: int | None, tokens: int
) -> None:
    ((ids, *_),) = reader(tmp_path, truncation=truncation).from_texts(["cat " * 100_000])
    assert ids.shape == (1, tokens)
    assert (ids[0, 0], ids[0, 1], ids[0, -2], ids[0, -1]) == (2, 5, 5, 3)


def test_a_text_is_cut_at_its_beginning_where_the_tokenizer_cuts_there(tmp_path: Path) -> None:
    made = tokenizer(max_length=4, direction="left")
    made.save(str(tmp_path / "tokenizer.json"))
    ports = (Port("input_ids", "int64", (None, None)),)
    found = natural(ports, OUTPUT, Meaning(tokenizer=tmp_path / "tokenizer.json"))
    ((ids,),) = found.from_texts(["the " * 5000 + "cat sat"])
    assert [WORDS[each] for each in ids[0]] == ["[CLS]", "cat", "sat", "[SEP]"]


def test_what_is_cut_off_costs_nothing_and_changes_nothing(tmp_path: Path) -> None:
    """A text that is far too long is answered as its beginning is; one that says hardly anything is refused."""
    found = reader(tmp_path, truncation=8)
    ((long, *_),) = found.from_texts(["the cat sat on a mat " * 1_000_000])
    ((short, *_),) = found.from_texts(["the cat sat on a mat " * 3])
    assert long.tolist() == short.tolist()
    with pytest.raises(Malformed, match="the text is too long: 256 of its characters are fewer than 8 tokens"):
        found.from_texts([" " * 1_000_000])


def test_a_graph_of_one_length_is_given_it(tmp_path: Path) -> None:
    ((ids, mask, types),) = reader(tmp_path, length=6).from_texts(["a mat"])
    assert ids.tolist() == [[2, 8, 9, 3, 0, 0]]
    assert mask.tolist() == [[1, 1, 1, 1, 0, 0]]
    ((ids, mask, types),) = reader(tmp_path, length=6).from_texts(["cat " * 9])
    assert ids.tolist() == [[2, 5, 5, 5, 5, 3]]
    assert types.tolist() == [[0] * 6]


@pytest.fixture(scope="module")
def sixteen(tmp_path_factory: pytest.TempPathFactory) -> Natural:
    """Reads 16 tokens of a text."""
    return reader(tmp_path_factory.mktemp("sixteen"), truncation=16)


@given(texts=st.lists(st.text(max_size=40), min_size=1, max_size=4))
def test_any_text_is_read_as_the_tokenizers_library_reads_it(sixteen: Natural, texts: list[str]) -> None:
    """A tokenizer of the same settings without padding is the reference."""
    reference = tokenizer(max_length=16)
    reference.no_padding()
    for text, (ids, mask, types) in zip(texts, sixteen.from_texts(texts), strict=True):
        expected = reference.encode(text)
        assert [ids.tolist(), mask.tolist()] == [[expected.ids], [expected.attention_mask]]
        assert types.tolist() == [expected.type_ids]


@pytest.mark.parametrize(("texts", "message"), [(["a", 7], "text 1 is no string"), (["\ud800"], "surrogate pair")])
def test_what_is_no_text_is_refused(tmp_path: Path, texts: list[str], message: str) -> None:
    with pytest.raises(Malformed, match=message):
        reader(tmp_path).from_texts(texts)


@pytest.mark.parametrize(
    "names",
    [("attention_mask",), ("input_ids", "position_ids"), ("tokens",)],
)
def test_a_model_of_other_inputs_takes_no_texts(tmp_path: Path, names: tuple[str, ...]) -> None:
    found = reader(tmp_path, *names)
    assert found.kinds == frozenset()
    with pytest.raises(WrongMedia, match="takes no texts"):
        found.from_texts(["a"])


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"version": "1.0"}', "\x00"])
def test_a_damaged_tokenizer_is_a_data_error_that_names_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    ports = (Port("input_ids", "int64", (None, None)),)
    with pytest.raises(DataError, match="this is no tokenizer") as refusal:
        natural(ports, OUTPUT, Meaning(tokenizer=tmp_path / "tokenizer.json"))
    assert refusal.value.where == str(tmp_path / "tokenizer.json")


def test_reading_texts_leaves_a_fork_without_a_warning(tmp_path: Path) -> None:
    """The library warns in a forked process where it has worked on several threads before."""
    save_encoder(tmp_path)
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from natural_models import served\n"
        f"found = served(Path({str(tmp_path / 'model.onnx')!r})).natural\n"
        "found.from_texts(['the cat'] * 50)\n"
        "child = os.fork()\n"
        "found.from_texts(['the cat'])\n"
        "os.waitpid(child, 0) if child else os._exit(0)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    environment.pop("TOKENIZERS_PARALLELISM", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""


def test_a_foreign_graph_reads_texts_with_the_tokenizer_beside_it_or_above_its_folder_onnx(tmp_path: Path) -> None:
    beside = served(save_encoder(tmp_path / "beside"))
    graph = save_encoder(tmp_path / "hub" / "onnx")
    graph.with_name("tokenizer.json").rename(tmp_path / "hub" / "tokenizer.json")
    above = served(graph)
    assert above.signature.meaning == Meaning(tokenizer=tmp_path / "hub" / "tokenizer.json")
    ((ids, mask, types),) = beside.natural.from_texts(["the cat sat"])
    (outputs,) = beside.session.all((ids, mask, types))
    (answer,) = above.natural.meant(above.session.all(above.natural.from_texts(["the cat sat"])[0]))
    assert isinstance(answer, dict)
    assert np.array(answer["outputs"]["vector"], np.float32).tobytes() == outputs[0].tobytes()


WORDS_RECIPE = """\
mlctl: 1
name: sentences
prepare: {task: embedding, source: tokens.npz}
export: {from: hub/model.onnx}
quantize: {method: dynamic}
quantize.half: {from: export, method: float16}
"""


def test_the_tokenizer_goes_with_an_adopted_model_and_its_integers(lab: Lab) -> None:
    save_encoder(lab.folder / "hub")
    ids = np.random.default_rng(1).integers(0, len(WORDS), (80, 6))
    np.savez(lab.folder / "tokens.npz", input_ids=ids, attention_mask=np.ones_like(ids), token_type_ids=ids * 0)
    (lab.folder / "recipe.yaml").write_text(WORDS_RECIPE)
    assert lab("run recipe.yaml --threads 1").code == 0
    made = {step: lab.artifact("sentences", step) for step in ("export", "quantize", "quantize.half")}
    sources = json.loads((made["export"] / "manifest.json").read_text())["sources"]
    assert [each["path"] for each in sources] == ["hub/model.onnx", "hub/tokenizer.json"]
    foreign = served(lab.folder / "hub" / "model.onnx")
    for step, folder in made.items():
        assert (folder / "tokenizer.json").read_bytes() == (lab.folder / "hub" / "tokenizer.json").read_bytes()
        found = served(folder / "model.onnx")
        assert found.signature.meaning.task == "embedding"
        assert found.natural.kinds == {"text"}
        names = [port.name for port in found.signature.inputs]
        (given,) = found.natural.from_texts(["The cat sat on a mat"])
        (expected,) = foreign.natural.from_texts(["The cat sat on a mat"])
        by_name = dict(zip([port.name for port in foreign.signature.inputs], expected, strict=True))
        assert all(np.array_equal(by_name[name], each) for name, each in zip(names, given, strict=True))
        (answer,) = found.natural.meant(found.session.all(given))
        assert isinstance(answer, dict)
        # int8 weights move a vector of numbers near 1 by a few hundredths, halves by a few thousandths.
        tolerance = {"export": 1e-5, "quantize": 0.1, "quantize.half": 0.01}[step]
        np.testing.assert_allclose(answer["embedding"], foreign.session(expected)[0], atol=tolerance)
    tokenizer(max_length=8).save(str(lab.folder / "hub" / "tokenizer.json"))
    assert "hub/tokenizer.json has other content" in lab("plan recipe.yaml").out


def test_a_language_model_reads_text_and_says_what_may_come_next(language_labs: Lab) -> None:
    data = PreparedData.open(language_labs.artifact("language", "prepare"))
    text = (language_labs.folder / "text.txt").read_text(encoding="utf-8")
    for step in ("export", "quantize", "quantize.fixed"):
        found = served(language_labs.artifact("language", step) / "model.onnx")
        vocabulary = TokenText.open(language_labs.artifact("language", step))
        assert found.natural.kinds == {"text"}
        ((tokens,),) = found.natural.from_texts([text[:10]])
        assert tokens.tolist() == [vocabulary.tokens(text[:10])]
        for window in data.split("test").inputs[0][:3]:
            ((again,),) = found.natural.from_texts([b"".join(map(vocabulary.bytes_of, window)).decode()])
            assert again.tolist() == [window.tolist()]
        assert tokens.dtype == np.int64
        logits = found.session((tokens,))[0, -1].astype(np.float64)
        shares = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        (answer,) = found.natural.meant(found.session.all((tokens,)))
        assert isinstance(answer, dict)
        assert [each["token"] for each in answer["next"]] == np.argsort(-shares, kind="stable")[:5].tolist()
        assert [each["probability"] for each in answer["next"]] == pytest.approx(np.sort(shares)[:-6:-1], rel=1e-6)
        assert [each["text"].encode() for each in answer["next"]] == [
            vocabulary.bytes_of(each["token"]) for each in answer["next"]
        ]
        ((whole,),) = found.natural.from_texts([text])
        assert whole.tolist() == [vocabulary.tokens(text)[-data.description.inputs[0].shape[0] :]]
        ((empty,),) = found.natural.from_texts([""])
        assert empty.tolist() == [[vocabulary.opening]]
        with pytest.raises(Malformed, match=r"the vocabulary has no '\\u732b'"):
            found.natural.from_texts(["cat 猫"])


def test_a_language_model_that_does_not_say_how_far_it_looks_back_takes_tokens_alone(language_labs: Lab) -> None:
    """One that an older version exported."""
    folder = language_labs.artifact("language", "export")
    ports = (Port("tokens", "int64", (None, None)),), (Port("logits", "float32", (None, None, 14)),)
    for told, kinds in (((InputMeaning("", scale=1.0),), set()), ((InputMeaning("tokens", shape=(16,)),), {"text"})):
        meaning = Meaning("language-modeling", inputs=told, tokenizer=folder / "tokenizer.json")
        assert natural(*ports, meaning).kinds == kinds


def test_the_encoder_of_these_tests_is_a_proper_graph() -> None:
    onnx.checker.check_model(encoder(), full_check=True)
