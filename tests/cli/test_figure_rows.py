"""Rows of figures at every width: nothing is broken within a word or an interval, and nothing is lost."""

import io
import re

import pytest
from conftest import Lab
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from terminals import on_terminal

from mlctl.cli.figure_rows import show_rows

HEADINGS = ("model", "accuracy (95% interval)", "vs first", "size", "p50 batch 1", "runtime")
ROWS = (
    ("train", "0.9852 [0.9801, 0.9901]", "0.0000 [0.0000, 0.0000]", "22.9 kB", "0.031 ms", "torch"),
    ("quantize", "0.9741 [0.9702, 0.9800]", "-0.0111 [-0.0201, +0.0021]", "9.1 kB", "0.012 ms", "onnxruntime"),
)
PIECE = re.compile(r"\[[^\]]*\]|[\d.]+ (?:ms|kB)|\S+")


def shown(width: int, headings: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    written = io.StringIO()
    show_rows(Console(file=written, width=width), headings, rows)
    return written.getvalue()


@pytest.mark.parametrize("width", range(20, 130))
def test_at_every_width_words_intervals_and_sizes_are_whole(width: int) -> None:
    text = shown(width, HEADINGS, ROWS)
    for cell in (*HEADINGS, *ROWS[0], *ROWS[1]):
        for piece in PIECE.findall(cell):
            assert piece in text
    is_table = text.lstrip().startswith(("model  ", "model ", "accuracy"))
    assert not is_table or max(map(len, text.splitlines())) <= width


def test_a_narrow_terminal_gets_a_line_for_every_figure_and_a_blank_one_between_models() -> None:
    blocks = shown(60, HEADINGS, ROWS).split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["model: train", "model: quantize"]
    assert blocks[0].splitlines() == [f"{heading}: {cell}" for heading, cell in zip(HEADINGS, ROWS[0], strict=True)]


def test_a_wide_terminal_has_a_line_for_every_model() -> None:
    lines = shown(120, HEADINGS, ROWS).splitlines()
    assert len(lines) == 4
    assert "  0.9741 [0.9702, 0.9800]  -0.0111 [-0.0201, +0.0021]  " in lines[3]


@given(
    cells=st.lists(st.tuples(*[st.text("ab[], 日", max_size=12)] * 3), min_size=1, max_size=3),
    width=st.integers(8, 60),
)
@example(cells=[("[[[[[日 [", "", "")], width=17)
@example(cells=[("", "[[[[[日 [", "")], width=17)
def test_whatever_cells_hold_their_words_are_whole(cells: list[tuple[str, str, str]], width: int) -> None:
    text = shown(width, ("one", "two", "three"), tuple(cells))
    for cell in cells:
        for column in cell:
            for word in column.split():
                assert word in text


@pytest.mark.parametrize("line", ["run whole.yaml", "plan tiny.yaml"])
def test_without_colour_there_is_no_other_styling_either(finished_lab: Lab, line: str) -> None:
    styled = re.compile(r"\x1b\[[0-9;]*m")
    assert not styled.search(on_terminal(finished_lab, line, TERM="xterm-256color"))


def test_a_terminal_gets_styling_unless_it_is_refused(finished_lab: Lab) -> None:
    found = on_terminal(finished_lab, "run whole.yaml", TERM="xterm-256color", NO_COLOR="")
    assert "\x1b[2m" in found
