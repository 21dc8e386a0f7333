"""The table of kinds of sources: what each recognizes, and that one more is one more line."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlctl.data import sources
from mlctl.data.batches import Batch, Source, SourceInput, given_splits
from mlctl.data.classes import ClassNumbers
from mlctl.data.origin import Origin
from mlctl.data.preparation import prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Pixels, Reading, wanted_pixels
from mlctl.data.source_kind import SourceKind
from mlctl.data.sources import SOURCES, kind_of
from mlctl.data.working_ahead import worked_ahead
from mlctl.errors import DataError
from mlctl.events import silent
from mlctl.recipe.prepare import RowData


@pytest.mark.parametrize("kind", SOURCES, ids=lambda kind: type(kind).__name__)
def test_a_kind_is_the_first_to_recognize_the_names_that_it_announces(kind: SourceKind) -> None:
    for ending in kind.endings:
        name = ending if ending[0] != "." else f"some{ending.upper()}"
        assert kind_of(Origin(Path(name))) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("emnist-letters-train-images-idx3-ubyte.gz", "IDX files"),
        ("t10k-labels.idx1-ubyte", "IDX files"),
        ("data_batch_12.bin", "CIFAR files"),
        ("fine_label_names.txt", "CIFAR files"),
        ("label_names.txt", "tables in delimited text"),
    ],
)
def test_the_names_of_well_known_files_are_known(name: str, kind: str) -> None:
    assert kind_of(Origin(Path(name))).name == kind


@pytest.mark.parametrize("name", ["images-idx3-ubyte.bz2", "batch.bin", "a.parquet.gz", "a.npz.gz", "csv", "a.json"])
def test_what_no_kind_reads_is_answered_with_what_each_does(name: str) -> None:
    with pytest.raises(DataError, match="cannot be read") as caught:
        kind_of(Origin(Path(name)))
    assert all(kind.name in caught.value.next for kind in SOURCES)


class GrayLevels(SourceKind):
    """One image of one pixel for every line."""

    name = "gray levels"
    endings = (".gray",)

    def open(self, reading: Reading, settings: RowData, origins: Sequence[Origin], classes: ClassNumbers) -> Source:
        pixels = wanted_pixels(reading, settings, origins[0], self.name)
        levels = np.array(origins[0].path.read_text().split(), dtype=np.uint8)
        batch = Batch(
            inputs=(levels.reshape(-1, 1, 1, 1),),
            targets=classes.of("dark" if level < 128 else "bright" for level in levels),
            splits=given_splits(origins[0], len(levels)),
            rows=np.arange(len(levels)),
            bad=(),
            position=origins[0].path.stat().st_size,
        )
        return Source(iter([batch]), (SourceInput.of(pixels, (1, 1, 1)),))


def test_a_new_kind_is_one_more_line_of_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "SOURCES", (*SOURCES, GrayLevels()))
    (tmp_path / "a.gray").write_text("\n".join(map(str, range(0, 250, 10))))
    (tmp_path / "out").mkdir()
    reading = Reading("image-classification", (Pixels("image", (1, 1, 1)),), Category(None))
    prepare(reading, RowData(task="any", source=("*.gray",)), tmp_path, tmp_path / "out", 0, silent)
    data = PreparedData.open(tmp_path / "out")
    assert data.description.labels == ("bright", "dark")
    train = data.split("train")
    assert train.inputs[0].ravel().tolist() == (train.rows * 10).tolist()


def test_the_table_loads_nothing_heavy() -> None:
    code = "import sys, mlctl.data.sources; print({'numpy', 'pyarrow', 'PIL', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


@pytest.mark.parametrize("threads", [1, 3])
def test_work_ahead_keeps_the_order_and_takes_little_in_advance(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pa, "cpu_count", lambda: threads)
    taken: list[int] = []

    def items() -> Iterator[int]:
        for item in range(50):
            taken.append(item)
            yield item

    found = []
    for item, result in worked_ahead(items(), lambda item: item * 2):
        found.append((item, result))
        assert len(taken) <= len(found) + threads
    assert found == [(item, item * 2) for item in range(50)]


def test_what_fails_in_the_work_is_raised_in_its_place() -> None:
    def work(item: int) -> int:
        if item == 7:
            raise DataError("the seventh")
        return item

    results = worked_ahead(range(20), work)
    assert [result for _, result in islice(results, 7)] == list(range(7))
    with pytest.raises(DataError, match="the seventh"):
        next(results)
