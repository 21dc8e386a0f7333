"""Which part of a text every split is."""

from pathlib import Path

import pytest
from texts import PROSE, staged

from mlctl.data.origin import Origin
from mlctl.data.text_splitting import split_text
from mlctl.data.text_staging import StagedText, stage_text
from mlctl.errors import DataError
from mlctl.recipe.prepare import SplitByFiles, SplitByShare, SplitFiles

SHARES = SplitByShare(train=0.7, validation=0.1, test=0.2)


def texts_of(settings: SplitByShare | SplitByFiles, text: StagedText, context: int = 2) -> dict[str, str]:
    return {name: b"".join(text.blocks(span)).decode() for name, span in split_text(settings, text, context).items()}


def by_files(folder: Path, train: str, test: str, validation: str | None = None) -> StagedText:
    origins = []
    for split, content in (("train", train), ("validation", validation), ("test", test)):
        if content is not None:
            (folder / split).write_bytes(content.encode())
            origins.append(Origin(folder / split, split))
    return stage_text(origins, folder / "staged", lambda position: None)


def test_shares_are_contiguous_and_of_characters(tmp_path: Path) -> None:
    text, _ = staged(tmp_path, PROSE)
    parts = texts_of(SHARES, text)
    assert list(parts) == ["train", "validation", "test"]
    assert "".join(parts.values()) == PROSE
    for name, share in (("train", 0.7), ("validation", 0.1), ("test", 0.2)):
        assert abs(len(parts[name]) - share * len(PROSE)) < 1


def test_no_share_cuts_a_character(tmp_path: Path) -> None:
    text, _ = staged(tmp_path, "漢字" * 500)
    assert {name: len(part) for name, part in texts_of(SHARES, text).items()} == {
        "train": 700,
        "validation": 100,
        "test": 200,
    }


def test_files_are_the_splits_that_they_are_named_for(tmp_path: Path) -> None:
    settings = SplitByFiles(files=SplitFiles(train=("train",), validation=("validation",), test=("test",)))
    text = by_files(tmp_path, "train é " * 9, "test ü " * 9, "validation " * 9)
    assert texts_of(settings, text) == {
        "train": "train é " * 9,
        "validation": "validation " * 9,
        "test": "test ü " * 9,
    }


def test_without_files_for_it_validation_is_the_end_of_the_train_files(tmp_path: Path) -> None:
    settings = SplitByFiles(files=SplitFiles(train=("train",), test=("test",)), validation=0.25)
    parts = texts_of(settings, by_files(tmp_path, "äbcd" * 10, "test" * 10))
    assert parts == {"train": ("äbcd" * 10)[:30], "validation": ("äbcd" * 10)[30:], "test": "test" * 10}


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("x", "the train split has 1 character: at most 1 token, and one sample of 9 tokens needs 10"),
        ("x" * 40, "the validation split has 4 characters: at most 4 tokens, and one sample of 9 tokens needs 10"),
        ("ü" * 45, "the validation split has 4 characters: at most 8 tokens, and one sample of 9 tokens needs 10"),
    ],
)
def test_a_split_that_cannot_have_a_window_is_refused(tmp_path: Path, content: str, what: str) -> None:
    text, _ = staged(tmp_path, content)
    with pytest.raises(DataError) as caught:
        split_text(SHARES, text, 9)
    assert caught.value.what == what
    assert "lower `context`" in caught.value.next


def test_a_split_whose_files_are_empty_is_refused(tmp_path: Path) -> None:
    settings = SplitByFiles(files=SplitFiles(train=("train",), validation=("validation",), test=("test",)))
    with pytest.raises(DataError, match="the validation split has 0 characters"):
        split_text(settings, by_files(tmp_path, "train" * 9, "test" * 9, ""), 4)
