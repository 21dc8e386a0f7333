"""Opening prepared data checks what it finds."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mlctl.data.preparation import prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Number, Numbers, Reading
from mlctl.errors import DataError
from mlctl.events import silent
from mlctl.recipe.prepare import RowData


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{i}.5,{i}\n" for i in range(20)))
    (tmp_path / "out").mkdir()
    reading = Reading("regression", (Numbers("features", ("x",)),), Number("y"))
    prepare(reading, RowData(task="any", source=("t.csv",)), tmp_path, tmp_path / "out", 0, silent)
    return tmp_path / "out"


def test_arrays_are_mapped_and_read_only(folder: Path) -> None:
    split = PreparedData.open(folder).split("train")
    assert isinstance(split.inputs[0], np.memmap)
    assert len(split) == 16
    with pytest.raises(ValueError, match="read-only"):
        split.targets[0] = 1


def test_what_was_described_is_what_is_opened(folder: Path) -> None:
    data = PreparedData.open(folder)
    assert data.description.inputs[0].columns == ("x",)
    assert {name: len(data.split(name)) for name in ("train", "validation", "test")} == data.description.rows


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def other_type(path: Path) -> None:
    np.save(path, np.load(path).astype(np.float64))


def shorter(path: Path) -> None:
    np.save(path, np.load(path)[1:])


def pickled(path: Path) -> None:
    np.save(path, np.array([{}], dtype=object), allow_pickle=True)


def zipped(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, np.zeros(16))


def fortran(path: Path) -> None:
    np.save(path, np.asfortranarray(np.zeros((16, 1, 2), dtype=np.float32)))


def text(path: Path) -> None:
    path.write_text("text")


@pytest.mark.parametrize("damage", [cut, other_type, shorter, pickled, zipped, fortran, text, Path.unlink])
@pytest.mark.parametrize("name", ["train/features.npy", "test/target.npy", "validation/row.npy"])
def test_an_array_that_is_not_what_was_written_is_named(
    folder: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(folder / name)
    with pytest.raises(DataError) as caught:
        PreparedData.open(folder)
    assert caught.value.where == str(folder / name)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", "null", json.dumps({"task": "t"})])
def test_a_folder_without_a_description_is_refused(folder: Path, content: str | None) -> None:
    (folder / "data.json").unlink()
    if content is not None:
        (folder / "data.json").write_text(content)
    with pytest.raises(DataError) as caught:
        PreparedData.open(folder)
    assert caught.value.where == str(folder / "data.json")


def test_a_description_of_other_splits_is_refused(folder: Path) -> None:
    raw = json.loads((folder / "data.json").read_text())
    raw["rows"] = {"train": 16}
    (folder / "data.json").write_text(json.dumps(raw))
    with pytest.raises(DataError, match="other splits"):
        PreparedData.open(folder)
