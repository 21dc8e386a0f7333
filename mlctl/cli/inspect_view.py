"""What a model is, on stdout: a table on a terminal, plain lines elsewhere."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict

from rich import box
from rich.table import Table
from rich.text import Text

from mlctl.cli.output import is_terminal
from mlctl.cli.tables import stdout_console
from mlctl.digests import jsonable
from mlctl.stages.inspecting import ModelDescription
from mlctl.stages.inspection_text import Rows, facts, parts


def show_model(found: ModelDescription, *, with_nodes: bool) -> None:
    """Print the facts, and every node or tensor where that was asked for."""
    told = list(facts(found))
    if not is_terminal(sys.stdout):
        width = max(len(label) for label, _ in told)
        sys.stdout.writelines(f"{label:<{width}}  {text}\n" for label, text in told)
        if with_nodes:
            _write_lines(parts(found))
        return
    console = stdout_console()
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in told:
        table.add_row(label, Text(text))
    console.print(table)
    if with_nodes:
        headings, rows = parts(found)
        console.print(_table(headings, rows))


def print_model(found: ModelDescription) -> None:
    """The whole description as one JSON document."""
    sys.stdout.write(json.dumps(jsonable(asdict(found)), indent=2, ensure_ascii=False) + "\n")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in ("FLOPs", "size") else "left")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _write_lines(found: Rows) -> None:
    headings, rows = found
    lines = [headings, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headings))]
    for line in lines:
        text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        sys.stdout.write(text.rstrip() + "\n")
