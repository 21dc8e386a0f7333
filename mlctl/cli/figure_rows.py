"""Rows of figures on stdout: a table where it fits without breaking a word, else a line for every figure."""

import os
import re
from collections.abc import Sequence
from typing import Final, Literal

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

ROOMY: Final = 100
"""Columns of a terminal that has room for wider gaps."""
_WHOLE: Final = re.compile(r"\[[^\[\]]*\]|\d (?:ms|[kMGT]?B)\b")
"""An interval, and a number's last digit with its unit."""
_JOINT: Final = "\ue000"
"""Stands for a blank at which no line may end; no font has it."""


def color_system() -> Literal["auto"] | None:
    """What a console may use of a terminal: with NO_COLOR nothing, bold and dim included."""
    return None if os.environ.get("NO_COLOR") else "auto"


def show_rows(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write one row after the other; words, intervals such as `[0.98, 0.99]`, and `22.9 kB` are never broken."""
    columns = [[_laid_out(cell) for cell in column] for column in zip(headings, *rows, strict=True)]
    least = [max(cell_len(word) for cell in column for word in cell.split() or [""]) for column in columns]
    whole = [max(map(cell_len, column)) for column in columns]
    padding = 1 if console.width >= ROOMY else 0
    spare = console.width - sum(least) - len(columns) * (padding + 1) + 1
    if spare < 0:
        _show_lines(console, headings, rows)
        return
    with console.capture() as captured:
        console.print(_table(columns, _widths(least, whole, spare), padding))
    drawn = captured.get().replace(_JOINT, " ")
    console.file.write("".join(f"{line.rstrip()}\n" for line in drawn.splitlines()))


def _laid_out(cell: str) -> str:
    """The cell with one blank between words, and none where no line may end."""
    return _WHOLE.sub(lambda found: found[0].replace(" ", _JOINT), " ".join(cell.split()))


def _show_lines(console: Console, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for number, row in enumerate(rows):
        lines = [f"{heading}: {cell}" for heading, cell in zip(headings, row, strict=True)]
        console.print(Text("\n".join([*([""] if number else []), *lines])), soft_wrap=True)


def _widths(least: Sequence[int], whole: Sequence[int], spare: int) -> list[int]:
    """A width for every column; where not all can be whole, those come first that need the least for it."""
    widths = list(least)
    for number in sorted(range(len(least)), key=lambda each: whole[each] - least[each]):
        given = min(spare, whole[number] - least[number])
        widths[number] += given
        spare -= given
    return widths


def _table(columns: Sequence[Sequence[str]], widths: Sequence[int], padding: int) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, 0, 0, padding))
    for number, (column, width) in enumerate(zip(columns, widths, strict=True)):
        # No word is too wide, but rich takes a line of wide characters with its last blank for one.
        table.add_column(Text(column[0]), justify="right" if number else "left", width=width, overflow="crop")
    for row in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*map(Text, row))
    return table
