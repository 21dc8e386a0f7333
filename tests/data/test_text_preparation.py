"""Text files become streams of tokens for every split, or a clear refusal."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from texts import PROSE, prepared
from tokenizers import Tokenizer

from mlctl.data.prepared import PreparedData
from mlctl.errors import ArtifactDamaged, DataError
from mlctl.events import Event, Progress, Warned

KINDS: list[dict[str, Any]] = [{"kind": "characters"}, {"kind": "bytes"}, {"kind": "bpe", "vocabulary": 400}]
SHARES = {"train": 0.6, "validation": 0.2, "test": 0.2}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("tokens", KINDS, ids=lambda each: str(each["kind"]))
def test_the_text_comes_back_from_the_tokens(tmp_path: Path, tokens: dict[str, Any]) -> None:
    description, folder = prepared(tmp_path, {"t.txt": PROSE}, tokens=tokens, split=SHARES)
    data = PreparedData.open(folder)
    assert data.description == description
    library = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert library.get_vocab_size() == description.vocabulary == len(data.token_characters)
    streams = [data.split(name).stream for name in SHARES]
    texts = [library.decode(stream.tolist()) for stream in streams if stream is not None]
    assert "".join(texts) == PROSE
    for text, stream in zip(texts, streams, strict=True):
        assert stream is not None
        assert library.encode(text).ids == stream.tolist()
        assert data.token_characters[stream].sum() == len(text)


def test_windows_are_views_of_the_stream_and_targets_come_next(tmp_path: Path) -> None:
    description, folder = prepared(tmp_path, {"t.txt": PROSE}, split=SHARES)
    for name in SHARES:
        split = PreparedData.open(folder).split(name)
        (inputs,), targets, stream = split.inputs, split.targets, split.stream
        assert stream is not None
        assert len(split) == (len(stream) - 1) // 8 == description.rows[name]
        assert (inputs.shape, targets.shape) == ((len(split), 8), (len(split), 8))
        assert np.array_equal(inputs.ravel(), stream[: len(split) * 8])
        assert np.array_equal(targets.ravel(), stream[1 : len(split) * 8 + 1])
        assert np.array_equal(inputs[1:, 0], targets[:-1, -1])
        assert split.rows.tolist() == list(range(len(split)))
        for view in (inputs, targets):
            assert np.shares_memory(view, stream)
            assert isinstance(view, np.memmap)
            assert not view.flags.writeable
    (field,) = description.inputs
    assert (field.name, field.dtype, field.shape) == ("tokens", "uint8", (8,))
    assert (description.target.name, description.target.dtype, description.target.shape) == ("next", "uint8", (8,))
    assert description.tokens == {name: len(stream) for name, stream in streams_of(folder).items()}


def streams_of(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {name: np.load(folder / name / "tokens.npy", allow_pickle=False) for name in SHARES}


def test_what_is_left_behind_is_what_is_described(tmp_path: Path) -> None:
    _, folder = prepared(tmp_path, {"a.txt": PROSE, "b.txt": PROSE}, split=SHARES)
    assert sorted(bytes_of(folder)) == [
        "data.json",
        "statistics.json",
        "test/tokens.npy",
        "token_characters.npy",
        "tokenizer.json",
        "train/tokens.npy",
        "validation/tokens.npy",
    ]
    parts = json.loads((folder / "statistics.json").read_text())["splits"]
    assert sum(each["bytes"] for each in parts.values()) == 2 * len(PROSE.encode())
    assert sum(each["characters"] for each in parts.values()) == 2 * len(PROSE)
    assert parts["test"]["tokens"] == len(streams_of(folder)["test"])


@pytest.mark.parametrize("tokens", KINDS, ids=lambda each: str(each["kind"]))
def test_the_same_text_gives_the_same_bytes(tmp_path: Path, tokens: dict[str, Any]) -> None:
    found = []
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        found.append(bytes_of(prepared(tmp_path / name, {"t.txt": PROSE}, tokens=tokens)[1]))
    assert found[0] == found[1]


def test_only_the_train_split_makes_the_vocabulary(tmp_path: Path) -> None:
    told: list[Event] = []
    files = {"train.txt": "abcab" * 20, "test.txt": "abcxab" * 20}
    split = {"files": {"train": "train.txt", "test": "test.txt"}, "validation": 0.2}
    description, folder = prepared(tmp_path, files, told.append, split=split)
    assert description.vocabulary == 4
    (warning,) = (each for each in told if isinstance(each, Warned))
    assert warning.text == "the train split lacks 1 character of the others, which become the token <unknown>: 'x'"
    assert streams_of(folder)["test"][:6].tolist() == [0, 1, 2, 3, 0, 1]
    assert Tokenizer.from_file(str(folder / "tokenizer.json")).id_to_token(3) == "<unknown>"


def test_a_vocabulary_that_the_text_does_not_give_is_said(tmp_path: Path) -> None:
    told: list[Event] = []
    description, _ = prepared(tmp_path, {"t.txt": PROSE}, told.append, tokens={"kind": "bpe", "vocabulary": 90_000})
    (warning,) = (each for each in told if isinstance(each, Warned))
    assert warning.text == f"the text gives {description.vocabulary:,} tokens, not 90,000"


def test_progress_is_told_for_reading_and_for_cutting(tmp_path: Path) -> None:
    told: list[Event] = []
    prepared(tmp_path, {"t.txt": PROSE}, told.append)
    progress = [each for each in told if isinstance(each, Progress)]
    size = len(PROSE.encode())
    assert {(each.what, each.total) for each in progress} == {("read", size), ("tokens", size)}
    assert [each.what for each in progress if each.done == size] == ["read", "tokens"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (b"", "there is not a single character in it"),
        (b"\xef\xbb\xbf", "there is not a single character in it"),
        (b"x", "the train split has 1 character: at most 1 token, and one sample of 8 tokens needs 9"),
        (b"z" * 900, "the train split is the character 'z' over and over: nothing is to be predicted"),
        ("é".encode() * 900, "the train split is the character '\\xe9' over and over: nothing is to be predicted"),
        (b"one\ntwo \xff", "the text is not UTF-8 (byte 0xff at offset 8)"),
        (PROSE.encode("utf-16"), "the text is not UTF-8 (byte 0xff at offset 0); it looks like UTF-16"),
    ],
    ids=["empty", "a mark alone", "one character", "one again and again", "another one", "not UTF-8", "UTF-16"],
)
def test_a_text_that_cannot_be_learnt_from_is_refused(tmp_path: Path, text: bytes, what: str) -> None:
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, {"t.txt": text})
    assert caught.value.exit_code == 3
    assert caught.value.what == what


def test_a_source_without_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    with pytest.raises(DataError, match="the folder holds no files"):
        prepared(tmp_path, {}, source=("texts",))


def test_a_split_that_has_characters_enough_but_too_few_tokens_is_refused(tmp_path: Path) -> None:
    tokens = {"kind": "bpe", "vocabulary": 600}
    with pytest.raises(DataError, match=r"the validation split has \d+ tokens, and one sample of 300 tokens needs 301"):
        prepared(tmp_path, {"t.txt": PROSE[:8000]}, tokens=tokens, context=300)


def test_damage_is_named(tmp_path: Path) -> None:
    _, folder = prepared(tmp_path, {"t.txt": PROSE})
    path = folder / "test" / "tokens.npy"
    stream = np.load(path)
    for damaged in (stream[:-1], stream.astype(np.uint16), stream[None]):
        np.save(path, damaged)
        with pytest.raises(ArtifactDamaged) as caught:
            PreparedData.open(folder)
        assert caught.value.where == str(path)


def test_a_description_whose_windows_are_not_the_streams_is_refused(tmp_path: Path) -> None:
    _, folder = prepared(tmp_path, {"t.txt": PROSE})
    raw = json.loads((folder / "data.json").read_text())
    raw["rows"]["test"] -= 1
    (folder / "data.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactDamaged, match="tokens are not the"):
        PreparedData.open(folder)


MEASURED = """
import resource, sys
from pathlib import Path
from texts import prepared
line = "the quick brown fox; 漢 é jumps over the lazy dog, number {}.\\n"
text = "".join(line.format(number) for number in range(1000)).encode()
folder = Path(sys.argv[1])
folder.mkdir()
with (folder / "t.txt").open("wb") as stream:
    for _ in range(int(sys.argv[2])):
        stream.write(text)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
(folder / "out").mkdir()
from mlctl.data.text_preparation import prepare_text
from mlctl.recipe.prepare import LanguageModelingData
asked = {"task": "language-modeling", "source": "t.txt"}
prepare_text(LanguageModelingData.model_validate(asked), folder, folder / "out", lambda event: None)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_grow_with_the_text(tmp_path: Path) -> None:
    """64 MB more of text; all that could grow with it is a number or two for each block of 256 KiB."""
    kilobytes = []
    for name, thousands in (("small", 50), ("large", 1000)):
        measured = subprocess.run(
            [sys.executable, "-c", MEASURED, str(tmp_path / name), str(thousands)],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        )
        kilobytes.append(int(measured.stdout))
    # 6.0 and 6.3 MB where this was written; the text itself would be 64 MB.
    assert kilobytes[1] - kilobytes[0] < 10_000
