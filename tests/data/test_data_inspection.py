"""A first look at data."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from mlctl.data.inspection import ColumnInspection, FolderInspection, TableInspection, inspect
from mlctl.errors import DataError


def test_columns_are_told_apart(tmp_path: Path) -> None:
    lines = [
        "id,size,name,empty,mixed",
        *[f"{i},{i / 2},n{i % 3},,{'x' if i == 9 else i}" for i in range(10)],
        "",
        "1,2",
    ]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    assert inspect(tmp_path / "t.csv") == TableInspection(
        columns=(
            ColumnInspection("id", "integer", 10, 0, 9),
            ColumnInspection("size", "float", 10, 0, 4.5),
            ColumnInspection("name", "text", 3, None, None),
            ColumnInspection("empty", "text", 0, None, None),
            ColumnInspection("mixed", "text", 10, None, None),
        ),
        rows=11,
    )


def test_kinds_come_from_the_first_rows_and_the_count_from_all(tmp_path: Path) -> None:
    text = "\ufeffn\tlabel\n" + "".join(f"{i}\t{i % 7}\n" for i in range(10_000)) + "last\tone\n"
    (tmp_path / "t.tsv.gz").write_bytes(gzip.compress(text.encode()))
    assert inspect(tmp_path / "t.tsv.gz") == TableInspection(
        columns=(ColumnInspection("n", "integer", 1000, 0, 9999), ColumnInspection("label", "integer", 7, 0, 6)),
        rows=10_001,
    )


def write_parquet(path: Path) -> None:
    columns: dict[str, list[object]] = {
        "id": [1, 2, None],
        "size": [0.5, 1.5, 1.5],
        "name": ["a", "", "b"],
        "list": [[1], [2, 3], []],
    }
    parquet.write_table(pa.table(columns), path)


def write_json(path: Path) -> None:
    path.write_text(
        '{"id": 1, "size": 0.5, "name": "a", "list": [1]}\n\n{"id": 2, "size": 1.5, "name": "", "list": [2, 3]}\n'
        '{"id": null, "name": "\\ud800", "size": 1.5, "list": [], "more": 7}\n'
    )


@pytest.mark.parametrize(("name", "write"), [("t.parquet", write_parquet), ("t.jsonl", write_json)])
def test_tables_of_other_formats_show_the_same(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    assert inspect(tmp_path / name) == TableInspection(
        columns=(
            ColumnInspection("id", "integer", 2, 1, 2),
            ColumnInspection("size", "float", 2, 0.5, 1.5),
            ColumnInspection("name", "text", 2, None, None),
            ColumnInspection("list", "text", 1, None, None),
        ),
        rows=3,
    )


def test_numbers_that_are_not_finite_have_no_ends(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\nnan,inf\nnan,1.5\n")
    columns = inspect(tmp_path / "t.csv")
    assert isinstance(columns, TableInspection)
    assert columns.columns == (
        ColumnInspection("a", "float", 1, None, None),
        ColumnInspection("b", "float", 2, 1.5, 1.5),
    )


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 3)])
def test_a_folder_of_images_shows_classes_and_size(tmp_path: Path, mode: str, channels: int) -> None:
    for label in ("dog", "cat"):
        (tmp_path / label).mkdir()
        Image.fromarray(np.zeros((5, 9), dtype=np.uint8)).convert(mode).save(tmp_path / label / "1.png")
    assert inspect(tmp_path) == FolderInspection(("cat", "dog"), 2, channels, 5, 9)


def test_what_cannot_be_inspected_is_named(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    with pytest.raises(DataError, match="no rows"):
        inspect(tmp_path / "t.csv")
    with pytest.raises(DataError, match="No such file"):
        inspect(tmp_path / "missing.csv")
    with pytest.raises(DataError, match="no class folders"):
        inspect(tmp_path)
    (tmp_path / "train.bin").write_bytes(b"")
    with pytest.raises(DataError, match="the folder holds CIFAR files, and no class folders"):
        inspect(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(DataError, match="this is no table"):
        inspect(tmp_path / "a.npz")
    (tmp_path / "a.csv").mkdir()
    (tmp_path / "a.csv" / "b").mkdir()
    with pytest.raises(DataError, match="holds no files"):
        inspect(tmp_path / "a.csv")
