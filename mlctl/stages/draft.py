"""A first recipe for data that nobody has described yet."""

import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from mlctl.data.sources import SOURCES
from mlctl.errors import DataError, UsageError

if TYPE_CHECKING:
    from mlctl.data.inspection import ColumnInspection, FolderInspection, TableInspection

SMALLEST_IMAGE_SIDE = 4
LARGEST_PIXEL = 255
LONGEST_NAME = 64


@dataclass(frozen=True)
class _Draft:
    task: str
    about: str
    prepare: tuple[str, ...]
    model: str
    epochs: int
    gates: tuple[str, ...]


def draft_recipe(data: Path, target: str | None, base: Path) -> str:
    """The text of a commented recipe that runs on `data`, to be written into the folder `base`.

    `target` is the column to predict, the last one where it is None. Raises DataError for data that cannot be read,
    and UsageError where no task of this release fits it.
    """
    from mlctl.data.inspection import FolderInspection, inspect

    tables = [kind for kind in SOURCES if kind.is_table]
    if data.is_file() and not any(kind.recognizes(data.name) for kind in tables):
        endings = ", ".join(ending for kind in tables for ending in kind.endings)
        raise DataError("no recipe can be drafted for a file of this kind", where=data, next=f"give a table: {endings}")
    found = inspect(data)
    source = os.path.relpath(data, base)
    if isinstance(found, FolderInspection):
        if target is not None:
            raise UsageError("a folder of images has no columns", where=data, next="leave `--target` out")
        return _text(_name(data), _of_folder(found, source))
    return _text(_name(data), _of_table(found, source, target, data))


def _of_folder(found: "FolderInspection", source: str) -> _Draft:
    shape = f"[{found.channels}, {found.height}, {found.width}]"
    return _Draft(
        task="image-classification",
        about=f"{found.images:,} images of {len(found.classes)} classes: {_listed(found.classes[:10])}",
        prepare=(
            f"source: {_quoted(source)}          # a folder with one folder of images for every class",
            f"image: {{shape: {shape}, scale: 255}}   # channels, height, width; images are resized to it",
            "split: {train: 0.7, validation: 0.15, test: 0.15, stratify: true}",
            "on_bad: fail              # skip: set images aside that cannot be read, and count them",
        ),
        model="{arch: cnn, channels: [32, 64], dropout: 0.1}",
        epochs=30,
        gates=("eval[export].accuracy >= eval[train].accuracy - 0.005",),
    )


def _of_table(found: "TableInspection", source: str, target: str | None, data: Path) -> _Draft:
    columns = {column.name: column for column in found.columns}
    name = target if target is not None else found.columns[-1].name
    if name not in columns:
        raise UsageError(f"there is no column {name!r}", where=data, next=f"its columns are: {', '.join(columns)}")
    others = tuple(column for column in found.columns if column.name != name)
    if not others:
        raise DataError("there is only one column", where=data, next="a model needs a column to predict and another")
    pixels = _pixels(others)
    if pixels and columns[name].kind != "float":
        return _of_pixels(found, columns[name], others, pixels, source)
    return _of_numbers(found, columns[name], others, source, data)


def _pixels(columns: Sequence["ColumnInspection"]) -> int | None:
    side = math.isqrt(len(columns))
    are_pixels = all(
        column.kind == "integer"
        and column.minimum is not None
        and column.minimum >= 0
        and _most(column) <= LARGEST_PIXEL
        for column in columns
    )
    is_square = side * side == len(columns) and side >= SMALLEST_IMAGE_SIDE
    return side if are_pixels and is_square else None


def _most(column: "ColumnInspection") -> float:
    return math.inf if column.maximum is None else column.maximum


def _of_pixels(
    found: "TableInspection", label: "ColumnInspection", others: Sequence["ColumnInspection"], side: int, source: str
) -> _Draft:
    largest = max(_most(column) for column in others)
    scale = int(largest) or 1
    return _Draft(
        task="image-classification",
        about=(
            f"{found.rows:,} rows: {side} x {side} pixels of 0 to {scale}, "
            f"{label.distinct} classes in {_quoted(label.name)}"
        ),
        prepare=(
            f"source: {_quoted(source)}",
            f"image: {{columns: {_pattern(others)}, shape: [1, {side}, {side}], scale: {scale}}}",
            f"label: {_quoted(label.name)}",
            "split: {train: 0.7, validation: 0.15, test: 0.15, stratify: true}",
            "on_bad: fail              # skip: set rows aside that cannot be used, and count them",
        ),
        model="{arch: cnn, channels: [32, 64], dropout: 0.1}",
        epochs=30,
        gates=("eval[export].accuracy >= eval[train].accuracy - 0.005",),
    )


def _of_numbers(
    found: "TableInspection",
    target: "ColumnInspection",
    others: Sequence["ColumnInspection"],
    source: str,
    data: Path,
) -> _Draft:
    features = [column for column in others if column.kind != "text"]
    if target.kind == "text" or not features:
        raise UsageError(
            f"{target.name!r} holds text" if target.kind == "text" else "no column but the target holds numbers",
            where=data,
            next="this release learns numbers from numbers, and classes from images; choose another `--target`",
        )
    left_out = [column.name for column in others if column.kind == "text"]
    note = f"   # left out, for they hold text: {_listed(left_out)}" if left_out else ""
    names = ", ".join(_quoted(column.name) for column in features)
    return _Draft(
        task="regression",
        about=f"{found.rows:,} rows, {len(found.columns)} columns",
        prepare=(
            f"source: {_quoted(source)}",
            f"features: {{columns: [{names}], standardize: true}}{note}",
            f"target: {_quoted(target.name)}",
            "split: {train: 0.7, validation: 0.15, test: 0.15}",
            "on_bad: fail              # skip: set rows aside that cannot be used, and count them",
        ),
        model="{arch: mlp, hidden: [64, 64]}",
        epochs=50,
        gates=("eval[export].rmse <= eval[train].rmse * 1.005",),
    )


def _pattern(columns: Sequence["ColumnInspection"]) -> str:
    first, last = min(column.name for column in columns), max(column.name for column in columns)
    prefix = "".join(a for a, b in takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False)))
    if prefix and not re.search(r"[*?\[]", prefix):
        return _quoted(f"{prefix}*")
    return f"[{', '.join(_quoted(column.name) for column in columns)}]"


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(_quoted, names))


def _quoted(text: str) -> str:
    # YAML takes fewer characters as they are than JSON does, in comments too, and joins no surrogates.
    escaped = (each if each.isprintable() else f"\\U{ord(each):08x}" for each in json.dumps(text, ensure_ascii=False))
    return "".join(escaped)


def _name(data: Path) -> str:
    stem = data.name.split(".")[0].lower()
    return re.sub(r"[^a-z0-9]+", "-", stem).strip("-")[:LONGEST_NAME] or "model"


def _text(name: str, draft: _Draft) -> str:
    indent = "\n  "
    return f"""\
# yaml-language-server: $schema=.mlctl/schema.json
# {draft.about}
# `mlctl run` runs this; `mlctl show --resolved` writes out every default.
mlctl: 1
name: {name}
seed: 0                     # everything random flows from it

prepare:
  task: {draft.task}
  {indent.join(draft.prepare)}

train:
  model: {draft.model}
  epochs: {draft.epochs}
  batch_size: 128
  optimizer: {{name: adamw, lr: 2.0e-3, weight_decay: 0.01}}
  schedule: {{name: cosine, warmup: 0.1}}
  early_stopping: {{metric: loss, patience: 10}}

export: {{}}                  # an ONNX graph with its preprocessing inside, compared with torch

eval:
  split: test
  latency: {{batch: [1, 32]}}

gates:
  {indent.join(f"- {gate}" for gate in draft.gates)}
"""
