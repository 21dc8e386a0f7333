"""From a table to arrays, statistics and a description."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from peak_memory import peak_of_preparing

from mlctl.data.preparation import Prepared, prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Number, Numbers, Reading
from mlctl.data.row_blocks import BLOCK_BYTES
from mlctl.errors import DataError
from mlctl.events import Event, Progress, Tell, Warned, silent
from mlctl.recipe.prepare import RowData

REGRESSION = Reading("regression", (Numbers("features", ("x*",), standardize="first-axis"),), Number("y", True))
IMAGES = Reading("image-classification", (Numbers("image", ("p*",), (1, 2, 2), 16.0, "first-axis"),), Category("c"))


def settings(**keys: object) -> RowData:
    return RowData.model_validate({"task": "any", "source": "t.csv"} | keys)


def prepared(
    base: Path, reading: Reading, wanted: RowData, into: str = "out", tell: Tell = silent
) -> tuple[Prepared, PreparedData]:
    (base / into).mkdir()
    result = prepare(reading, wanted, base, base / into, 7, tell)
    return result, PreparedData.open(base / into)


def write_points(path: Path, count: int = 200) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """A table x0,x1,y of normal numbers; the values as they stand in the file."""
    values = np.random.default_rng(1).normal([1000, 0, -3], [1, 50, 2], (count, 3)).round(6)
    path.write_text("x0,x1,y\n" + "".join(f"{a},{b},{y}\n" for a, b, y in values))
    return values


def test_every_split_holds_the_rows_of_the_source_in_its_order(tmp_path: Path) -> None:
    values = write_points(tmp_path / "t.csv")
    result, data = prepared(tmp_path, REGRESSION, settings())
    assert result.description.rows == {"train": 160, "validation": 20, "test": 20}
    positions = []
    for name in ("train", "validation", "test"):
        split = data.split(name)
        assert split.inputs[0].dtype == split.targets.dtype == np.float32
        assert split.inputs[0].tolist() == values[split.rows, :2].astype(np.float32).tolist()
        assert split.targets.tolist() == values[split.rows, 2].astype(np.float32).tolist()
        assert (np.diff(split.rows) > 0).all()
        positions.extend(split.rows.tolist())
    assert sorted(positions) == list(range(200))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "data.json",
        "statistics.json",
        "test",
        "train",
        "validation",
    ]


def test_scaling_is_the_train_splits_mean_and_deviation(tmp_path: Path) -> None:
    write_points(tmp_path / "t.csv")
    result, data = prepared(tmp_path, REGRESSION, settings())
    train = data.split("train").inputs[0].astype(np.float64)
    # Only the last digits of a float64 sum over 160 rows depend on the order of adding.
    assert result.description.input_scaling[0].mean == pytest.approx(train.mean(axis=0), rel=1e-12)
    assert result.description.input_scaling[0].deviation == pytest.approx(train.std(axis=0), rel=1e-12)
    target = data.split("train").targets.astype(np.float64)
    assert result.description.target_scaling.mean == pytest.approx((target.mean(),), rel=1e-12)


def test_a_constant_column_gets_deviation_one(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"0.1,{i}\n" for i in range(20)))
    result, _ = prepared(tmp_path, REGRESSION, settings())
    assert result.description.input_scaling[0].deviation == (1.0,)


def write_images(path: Path, lines: Iterator[str] | None = None) -> None:
    rows = lines or (f"{i % 17},{i % 5},0,16,{(10, 9, 100)[i % 3]}" for i in range(60))
    path.write_text("p00,p01,p10,p11,c\n" + "\n".join(rows) + "\n")


def test_pixels_of_a_table_are_bytes_and_labels_sort_by_value(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv")
    result, data = prepared(tmp_path, IMAGES, settings(split={"stratify": True}))
    split = data.split("train")
    assert result.description.labels == ("9", "10", "100")
    assert result.description.inputs[0].columns == ("p00", "p01", "p10", "p11")
    assert (split.inputs[0].dtype.name, split.targets.dtype.name) == ("uint8", "int64")
    assert split.inputs[0].shape == (48, 1, 2, 2)
    assert split.inputs[0][:, 0, 1, 1].tolist() == [16] * 48
    assert split.targets.tolist() == [(1, 0, 2)[row % 3] for row in split.rows]
    raw = split.inputs[0].astype(np.float64) / 16
    assert result.description.input_scaling[0].mean == pytest.approx((raw.mean(),), rel=1e-12)


@pytest.mark.parametrize("odd", ["256", "-1", "0.5", "1e9"])
def test_one_value_beyond_a_byte_makes_every_split_float32(tmp_path: Path, odd: str) -> None:
    write_images(tmp_path / "t.csv", iter(["1,2,3,4,a"] * 30 + [f"1,2,3,{odd},b"]))
    result, data = prepared(tmp_path, IMAGES, settings())
    assert result.description.inputs[0].dtype == "float32"
    highest = max(data.split(name).inputs[0][:, 0, 1, 1].max() for name in ("train", "validation", "test"))
    assert highest == max(4, float(odd))


def test_labels_that_are_not_all_numbers_sort_as_text(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv", (f"1,2,3,4,{['10', '9', 'x'][i % 3]}" for i in range(30)))
    assert prepared(tmp_path, IMAGES, settings())[0].description.labels == ("10", "9", "x")


def test_bad_rows_fail_with_the_first_five_and_the_count(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv", iter(["1,2,3,4,a", "", *["1,2,3,x,a"] * 7, "1,2,3"]))
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, IMAGES, settings())
    lines = caught.value.what.split("\n  ")
    assert lines[0] == "8 rows cannot be used"
    assert lines[1:6] == [f"{tmp_path}/t.csv:{line}: column 'p11' holds 'x', not a number" for line in range(4, 9)]
    assert lines[6:] == ["and 3 more"]
    assert "on_bad: skip" in caught.value.next


def test_bad_rows_can_be_set_aside_listed_and_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv", iter([*["1,2,3,4,a"] * 9, "1,2", "", "1,2,3,,a", *["1,2,3,4,b"] * 9]))
    result, data = prepared(tmp_path, IMAGES, settings(on_bad="skip"))
    assert (result.bad_rows, sum(result.description.rows.values())) == (2, 18)
    listed = (tmp_path / "out" / "bad_rows.csv").read_text()
    assert listed == (
        "file,line,reason\nt.csv,11,\"the row has 2 values, the header 5\"\nt.csv,13,column 'p11' is empty\n"
    )
    used = sorted(row for name in ("train", "validation", "test") for row in data.split(name).rows)
    assert used == [*range(9), *range(11, 20)]


def test_nothing_but_bad_rows_is_an_error_even_when_they_are_set_aside(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv", iter(["1,2,3", "nan,1,1,1,a"]))
    with pytest.raises(DataError, match="2 rows cannot be used"):
        prepared(tmp_path, IMAGES, settings(on_bad="skip"))


def test_the_first_of_equal_rows_is_kept(tmp_path: Path) -> None:
    rows = [f"{i},2,3,4,a" for i in range(10)]
    write_images(tmp_path / "t.csv", iter([*rows, "0.0,2,3,4,a", "-0,2,3,4,a", "0,2,3,4,b", "0,2,3.5,4,a", *rows]))
    result, data = prepared(tmp_path, IMAGES, settings(duplicates="drop"))
    assert result.duplicate_rows == 12
    used = sorted(row for name in ("train", "validation", "test") for row in data.split(name).rows)
    assert used == [*range(10), 12, 13]


def test_a_column_can_name_the_split(tmp_path: Path) -> None:
    names = ["train", "test", "validation", "train"]
    rows = "".join(f"{i},{i},{names[i % 4]}\n" for i in range(16))
    (tmp_path / "t.csv").write_text(f"x,y,xsplit\n{rows}")
    result, data = prepared(tmp_path, REGRESSION, settings(split={"column": "xsplit"}))
    assert data.split("test").rows.tolist() == [1, 5, 9, 13]
    assert result.description.inputs[0].columns == ("x",)
    (tmp_path / "t.csv").write_text(f"x,y,xsplit\n{rows}1,1,dev\n")
    with pytest.raises(DataError, match=r"t\.csv:18: column 'xsplit' holds 'dev', not train, validation or test"):
        prepared(tmp_path, REGRESSION, settings(split={"column": "xsplit"}), into="other")


def test_files_can_be_the_splits(tmp_path: Path) -> None:
    for name, start in (("a1.csv", 0), ("a2.csv", 10), ("b.csv", 20)):
        (tmp_path / name).write_text("x,y\n" + "".join(f"{i},{i}\n" for i in range(start, start + 10)))
    files = {"train": "a*.csv", "test": "b.csv"}
    _, data = prepared(tmp_path, REGRESSION, settings(source=None, split={"files": files, "validation": 0.25}))
    assert data.split("test").targets.tolist() == list(range(20, 30))
    assert [len(data.split(name)) for name in ("train", "validation")] == [15, 5]
    assert set(data.split("train").rows) | set(data.split("validation").rows) == set(range(20))


def test_statistics_agree_with_numpy_for_every_split(tmp_path: Path) -> None:
    write_points(tmp_path / "t.csv")
    _, data = prepared(tmp_path, REGRESSION, settings())
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    for name, found in statistics["splits"].items():
        split = data.split(name)
        for column, summary in enumerate(found["inputs"][0]["summaries"]):
            values = split.inputs[0][:, column].astype(np.float64)
            expected = [values.mean(), values.std(), values.min(), values.max()]
            # x0 is 1000 ± 1: a sum of squares would lose six digits here, the merge of moments loses none.
            measured = [summary[key] for key in ("mean", "deviation", "minimum", "maximum")]
            assert measured == pytest.approx(expected, rel=1e-11)
            assert (summary["name"], summary["count"]) == (f"x{column}", len(split))
        assert found["target"]["mean"] == pytest.approx(split.targets.astype(np.float64).mean(), rel=1e-11)


def test_the_class_balance_of_every_split_is_counted_and_an_unlearnt_class_is_told(tmp_path: Path) -> None:
    events: list[Event] = []
    names = ["train"] * 6 + ["validation", "test"]
    rows = "".join(f"{i},1,1,1,{'rare' if name == 'test' else 'ab'[i % 2]},{name}\n" for i, name in enumerate(names))
    (tmp_path / "t.csv").write_text(f"p0,p1,p2,p3,c,s\n{rows}")
    prepared(tmp_path, IMAGES, settings(split={"column": "s"}), tell=events.append)
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())
    balance = [(each["label"], each["rows"], each["share"]) for each in statistics["splits"]["train"]["classes"]]
    assert balance == [("a", 3, 0.5), ("b", 3, 0.5), ("rare", 0, 0.0)]
    assert [event for event in events if isinstance(event, Warned)] == [
        Warned("no row of the train split has the label 'rare'")
    ]


def test_a_class_of_one_row_is_told_wherever_it_went(tmp_path: Path) -> None:
    events: list[Event] = []
    names = ["train"] * 8 + ["validation", "test"]
    labels = ["a", "a", "a", "a", "b", "b", "lone", "twice", "twice", "last"]
    rows = "".join(f"{i},1,1,1,{label},{name}\n" for i, (label, name) in enumerate(zip(labels, names, strict=True)))
    (tmp_path / "t.csv").write_text(f"p0,p1,p2,p3,c,s\n{rows}")
    prepared(tmp_path, IMAGES, settings(split={"column": "s"}), tell=events.append)
    assert [event.text for event in events if isinstance(event, Warned)] == [
        "no row of the train split has the label 'last'",
        "labels of a single row, which is learnt from and which nothing measures: 'lone'",
    ]


def test_of_many_such_classes_a_few_are_named(tmp_path: Path) -> None:
    events: list[Event] = []
    rows = "".join(f"{i},1,1,1,c{i},train\n" for i in range(8)) + "".join(
        f"{i},1,1,1,c0,{name}\n" for i, name in enumerate(["validation", "test"])
    )
    (tmp_path / "t.csv").write_text(f"p0,p1,p2,p3,c,s\n{rows}")
    prepared(tmp_path, IMAGES, settings(split={"column": "s"}), tell=events.append)
    (warned,) = [event.text for event in events if isinstance(event, Warned)]
    assert warned.endswith(": 'c1', 'c2', 'c3', 'c4', 'c5' and 2 more")


def test_progress_ends_at_the_size_of_the_files(tmp_path: Path) -> None:
    events: list[Event] = []
    write_points(tmp_path / "t.csv")
    prepared(tmp_path, REGRESSION, settings(), tell=events.append)
    size = (tmp_path / "t.csv").stat().st_size
    assert events[-1] == Progress("prepare", size, size, "bytes")


@pytest.fixture
def cpu_count() -> Iterator[None]:
    before = pa.cpu_count()
    yield
    pa.set_cpu_count(before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("cpu_count")
def test_the_bytes_do_not_depend_on_threads_or_compression(tmp_path: Path) -> None:
    write_points(tmp_path / "t.csv", 300_000)
    content = (tmp_path / "t.csv").read_bytes()
    assert len(content) > 2 * BLOCK_BYTES
    (tmp_path / "t.csv.gz").write_bytes(gzip.compress(content, 1))
    (tmp_path / "t.csv.zst").write_bytes(pa.Codec("zstd").compress(content, asbytes=True))
    made = []
    for threads, source in ((1, "t.csv"), (3, "t.csv"), (2, "t.csv.gz"), (2, "t.csv.zst")):
        pa.set_cpu_count(threads)
        prepared(tmp_path, REGRESSION, settings(source=source), into=f"{threads}{source}")
        made.append(contents(tmp_path / f"{threads}{source}"))
    assert len(made[0]) == 11
    assert made[0] == made[1] == made[2] == made[3]


def test_memory_is_bounded_by_batches_and_not_by_the_data(tmp_path: Path) -> None:
    """Three times the data may only cost the few bytes per row that say where each row goes."""
    line = ",".join(["12345.678"] * 200) + ",1\n"
    peaks = []
    for name, rows in (("small", 40_000), ("large", 120_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "t.csv").write_text(",".join(f"x{i}" for i in range(200)) + ",y\n" + line * rows)
        peaks.append(peak_of_preparing(tmp_path / name))
    # In kB. 80,000 rows more are 160,000 of text and 64,000 of inputs, either of which must not stay; a row's target,
    # split and place are 13 bytes, 1,040 in all; the rest of the room is for blocks in flight, which vary by 10 MB.
    assert peaks[1] - peaks[0] < 24_000


def test_a_table_without_named_pixels_or_label_says_so(tmp_path: Path) -> None:
    write_images(tmp_path / "t.csv")
    with pytest.raises(DataError, match=re.escape("no column is named for the label")):
        prepared(tmp_path, Reading("image-classification", IMAGES.inputs, Category(None)), settings())
