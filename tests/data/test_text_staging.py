"""Many files as one text, and any part of it again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from texts import PROSE, staged

from mlctl.data.origin import Origin
from mlctl.data.text_staging import Span, stage_text


def joined(folder: Path, *texts: str) -> str:
    """What files with these texts come to."""
    origins = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.txt"
        path.write_text(text, newline="")
        origins.append(Origin(path))
    found = stage_text(origins, folder / "staged", lambda position: None)
    return b"".join(found.blocks(found.spans[None])).decode() if found.spans else ""


def test_a_line_that_a_file_leaves_open_is_ended(tmp_path: Path) -> None:
    assert joined(tmp_path, "one", "two\n", "", "three", "\nfour") == "one\ntwo\nthree\n\nfour"


def test_files_that_hold_nothing_leave_no_trace(tmp_path: Path) -> None:
    assert joined(tmp_path, "", "one", "", "") == "one"
    assert joined(tmp_path, "", "") == ""


def test_every_splits_files_stand_together_and_do_not_touch(tmp_path: Path) -> None:
    origins = []
    for name, split in (("a", "train"), ("b", "train"), ("c", "validation"), ("d", "test")):
        (tmp_path / name).write_text(name * 3)
        origins.append(Origin(tmp_path / name, split))
    text = stage_text(origins, tmp_path / "staged", lambda position: None)
    parts = {split: b"".join(text.blocks(span)) for split, span in text.spans.items()}
    assert parts == {"train": b"aaa\nbbb", "validation": b"ccc", "test": b"ddd"}


def test_progress_counts_the_bytes_of_the_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name * 1000)
    told: list[int] = []
    stage_text([Origin(tmp_path / "a"), Origin(tmp_path / "b")], tmp_path / "staged", told.append)
    assert told == [1000, 2000]


@pytest.mark.parametrize("block_bytes", [4, 1000, 1 << 20])
def test_a_span_comes_again_in_whole_characters(tmp_path: Path, block_bytes: int) -> None:
    text, whole = staged(tmp_path, PROSE)
    assert b"".join(text.blocks(whole, block_bytes)).decode() == PROSE
    encoded = PROSE.encode()
    start = encoded.index("—".encode()) + 1  # within a character of three bytes
    stop = encoded.index("ë".encode(), start) + 1
    found = b"".join(text.blocks(Span(start, stop), block_bytes)).decode()
    assert found == encoded[start + 2 : stop - 1].decode()


@given(st.lists(st.text(max_size=20), min_size=1, max_size=5), st.data())
def test_cuts_are_those_of_the_characters(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("text")
    origins = []
    for number, content in enumerate(["x\n", *texts]):
        (folder / str(number)).write_bytes(content.encode())
        origins.append(Origin(folder / str(number)))
    text = stage_text(origins, folder / "staged", lambda position: None)
    whole = text.spans[None]
    all_of_it = b"".join(text.blocks(whole)).decode()
    assert text.characters(whole) == len(all_of_it)
    start = data.draw(st.integers(0, len(all_of_it)))
    part = Span(text.cut(whole, start), whole.stop)
    count = data.draw(st.integers(0, len(all_of_it) - start))
    chosen = Span(part.start, text.cut(part, count))
    assert b"".join(text.blocks(chosen)).decode() == all_of_it[start : start + count]
    assert text.characters(chosen) == count
