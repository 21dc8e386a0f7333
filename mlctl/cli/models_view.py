"""What a repository of models holds, on stdout: a table, or one JSON document."""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

from mlctl.cli.figure_rows import show_rows
from mlctl.cli.output import is_terminal
from mlctl.cli.tables import stdout_console
from mlctl.digests import jsonable
from mlctl.stages.versions import ModelListing, VersionListing, event_text, verdict_text
from mlctl.units import size_text

HEADINGS: Final = ("model", "labels", "published", "from", "verdict", "size")


def say_waiting() -> None:
    """Say that another process is at work on the model."""
    sys.stderr.write("another process changes this model; waiting for it\n")


def show_models(found: Sequence[ModelListing], *, with_history: bool) -> None:
    """A row for every version; below, why a model cannot be served, the last refusal, and the history if asked for."""
    rows = [(f"{model.name}@{each.version}", *_cells(each)) for model in found for each in model.versions]
    if rows:
        _show_rows(rows)
    for model in found:
        sys.stdout.writelines(f"{line}\n" for line in _notes(model))
        if with_history:
            sys.stdout.writelines(f"{event_text(event)}\n" for event in model.history)
    if not rows:
        sys.stdout.write("no versions\n")


def print_models(found: Sequence[ModelListing]) -> None:
    """The whole listing as one JSON document."""
    sys.stdout.write(json.dumps([jsonable(asdict(each)) for each in found], indent=2, ensure_ascii=False) + "\n")


def _cells(each: VersionListing) -> tuple[str, ...]:
    names = ", ".join((*each.labels, *(["live"] if each.is_live and not each.labels else []))) or "—"
    size = size_text(each.bytes)
    if each.record is None:
        return (names, "—", f"damaged: {each.damage}" if each.damage else "put there by hand", "—", size)
    record = each.record
    origin = f"{record.step} of {record.recipe}, {record.fingerprint[:12]}"
    return (names, f"{record.published} by {record.who}", origin, verdict_text(record), size)


def _notes(model: ModelListing) -> Iterator[str]:
    if model.damage:
        yield f"{model.name}: {model.damage}"
    if model.last_refusal:
        yield f"{model.name}: last refused {event_text(model.last_refusal)}"


def _show_rows(rows: list[tuple[str, ...]]) -> None:
    columns = list(zip(HEADINGS, *rows, strict=True))
    if not is_terminal(sys.stdout):
        widths = [max(map(len, column)) for column in columns]
        for line in (HEADINGS, *rows):
            text = "  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
            sys.stdout.write(text.rstrip() + "\n")
        return
    show_rows(stdout_console(), HEADINGS, rows)
