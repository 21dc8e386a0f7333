"""Arrays of .npz files become prepared data, value for value."""

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mlctl.data.array_files import array_batches, array_inputs, stored_arrays
from mlctl.data.origin import Origin
from mlctl.data.origins import source_files
from mlctl.data.preparation import Prepared, prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, EveryArray, Numbers, Reading
from mlctl.errors import DataError
from mlctl.events import silent
from mlctl.recipe.prepare import EmbeddingData

READING = Reading("embedding", (EveryArray(),), None)
Arrays = dict[str, npt.NDArray[Any]]


def wanted(*source: str, **keys: object) -> EmbeddingData:
    return EmbeddingData.model_validate({"task": "embedding", "source": source or "a.npz"} | keys)


def prepared(base: Path, settings: EmbeddingData) -> tuple[Prepared, PreparedData]:
    (base / "out").mkdir()
    return prepare(READING, settings, base, base / "out", 7, silent), PreparedData.open(base / "out")


def save(path: Path, values: Mapping[str, npt.NDArray[Any]], write: Any = np.savez) -> None:
    """`numpy.savez` by names that are not known beforehand."""
    write(path, **values)


def rows(count: int = 50, seed: int = 0) -> Arrays:
    generator = np.random.default_rng(seed)
    return {
        "pixels": generator.integers(0, 256, (count, 1, 3, 3)).astype(np.uint8),
        "whole": generator.integers(0, 9, (count, 4)).astype(np.float32),
        "ids": generator.integers(-(2**40), 2**40, (count, 5)),
        "length": generator.integers(0, 5, count),
    }


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_every_split_holds_the_arrays_rows_in_their_own_dtypes(tmp_path: Path, write: Any) -> None:
    values = rows()
    save(tmp_path / "a.npz", values, write)
    result, data = prepared(tmp_path, wanted())
    assert result.description.rows == {"train": 40, "validation": 5, "test": 5}
    assert [(each.name, each.dtype, each.shape) for each in result.description.inputs] == [
        ("pixels", "uint8", (1, 3, 3)),
        ("whole", "float32", (4,)),
        ("ids", "int64", (5,)),
        ("length", "int64", ()),
    ]
    positions: list[int] = []
    for name in ("train", "validation", "test"):
        split = data.split(name)
        for given_array, stored in zip(values.values(), split.inputs, strict=True):
            assert stored.dtype == given_array.dtype
            assert np.array_equal(stored, given_array[split.rows])
        assert split.targets.shape == (len(split), 0)
        positions.extend(split.rows.tolist())
    assert sorted(positions) == list(range(50))
    statistics = json.loads((tmp_path / "out" / "statistics.json").read_text())["splits"]["train"]
    (summary,) = statistics["inputs"][1]["summaries"]
    assert summary["mean"] == pytest.approx(values["whole"][data.split("train").rows].mean())
    assert (statistics["target"], statistics["classes"]) == (None, [])


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.sampled_from([np.uint8, np.float32, np.int64]).flatmap(
        lambda dtype: arrays(
            dtype,
            array_shapes(max_dims=3, max_side=6),
            elements=st.floats(width=32, allow_nan=False, allow_infinity=False) if dtype is np.float32 else None,
        )
    ),
    batch_bytes=st.integers(1, 200),
)
def test_batches_of_any_size_are_the_array(tmp_path: Path, values: npt.NDArray[Any], batch_bytes: int) -> None:
    np.savez(tmp_path / "a.npz", x=values)
    found = [Origin(tmp_path / "a.npz")]
    batches = list(array_batches(found, array_inputs(found), batch_bytes))
    assert np.array_equal(np.concatenate([each.inputs[0] for each in batches]), values)
    assert np.concatenate([each.rows for each in batches]).tolist() == list(range(len(values)))
    assert batches[-1].position == (tmp_path / "a.npz").stat().st_size


def test_several_files_are_one_after_the_other(tmp_path: Path) -> None:
    parts = [rows(20, seed) for seed in range(2)]
    for number, part in enumerate(parts):
        save(tmp_path / f"{number}.npz", part)
    _, data = prepared(tmp_path, wanted("*.npz"))
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    split = data.split("train")
    assert all(
        np.array_equal(stored, each[split.rows]) for stored, each in zip(split.inputs, whole.values(), strict=True)
    )


def test_rows_that_are_not_finite_fail_or_are_set_aside(tmp_path: Path) -> None:
    values = rows(30)
    values["whole"][3, 1], values["whole"][20, 0] = np.nan, np.inf
    save(tmp_path / "a.npz", values)
    with pytest.raises(DataError, match="2 rows cannot be used") as refusal:
        prepared(tmp_path, wanted())
    assert "a.npz: row 3 of 'whole' holds a number that is not finite" in refusal.value.what
    (tmp_path / "out").rename(tmp_path / "failed")
    result, data = prepared(tmp_path, wanted(on_bad="skip"))
    assert result.bad_rows == 2
    kept = np.concatenate([data.split(name).rows for name in ("train", "validation", "test")])
    assert sorted(kept.tolist()) == [row for row in range(30) if row not in (3, 20)]
    listed = (tmp_path / "out" / "bad_rows.csv").read_text().splitlines()
    assert listed[2] == "a.npz,,row 20 of 'whole' holds a number that is not finite"


def test_equal_rows_can_be_dropped(tmp_path: Path) -> None:
    values = rows(20)
    save(tmp_path / "a.npz", {name: np.concatenate([each, each[:7]]) for name, each in values.items()})
    result, _ = prepared(tmp_path, wanted(duplicates="drop"))
    assert (result.duplicate_rows, sum(result.description.rows.values())) == (7, 20)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"x": np.ones((3, 2)), "y": np.ones(3)}, "'x' is of dtype <f8; arrays are of uint8, float32, int64"),
        ({"x": np.ones((3, 2), ">f4")}, "'x' is of dtype >f4"),
        ({"x": np.ones((3, 2), np.int32)}, "'x' is of dtype <i4"),
        ({"x": np.array([{}, []], object)}, r"'x' is of dtype \|O"),
        ({"x": np.array(["a"])}, "'x' is of dtype <U1"),
        ({"x": np.ones((3, 2), np.float32), "y": np.ones(4, np.int64)}, "'x' has 3 rows, 'y' has 4"),
        ({"x": np.float32(1)}, "'x' has the shape \\[\\]"),
        ({"x": np.ones((3, 0), np.float32)}, "'x' has the shape \\[3, 0\\]"),
        ({"x": np.ones((0, 3), np.float32)}, "the arrays have no rows"),
        ({"x": np.asfortranarray(np.ones((3, 2), np.float32))}, "'x' is stored column by column"),
        ({"target": np.ones(3, np.float32)}, "'target.npy' cannot be an input's name"),
        ({"a b": np.ones(3, np.float32)}, "'a b.npy' cannot be an input's name"),
        ({"../x": np.ones(3, np.float32)}, r"'\.\./x.npy' cannot be an input's name"),
        ({f"x{number}": np.ones(1, np.uint8) for number in range(65)}, "the file holds 65 arrays"),
    ],
)
def test_arrays_that_no_model_takes_are_refused(tmp_path: Path, values: Arrays, message: str) -> None:
    save(tmp_path / "a.npz", values)
    with pytest.raises(DataError, match=message) as refusal:
        stored_arrays(Origin(tmp_path / "a.npz"))
    assert refusal.value.where == str(tmp_path / "a.npz")


def npy(values: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def write_zip(path: Path, *members: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members:
            archive.writestr(name, content)


ONES = npy(np.ones((40, 2), np.float32))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (ONES[:-8], "the array 'x' ends early"),
        (ONES + b"0", "longer than its header says"),
        (b"\x93NUMPY\x03\x00" + ONES[8:], "a header of version"),
        (b"no array at all", "cannot be read"),
        (ONES.replace(b"(40, 2)", b"(-4,20)"), "cannot be read|no rows"),
    ],
)
def test_damaged_arrays_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    write_zip(tmp_path / "a.npz", ("x.npy", content))
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, wanted())


@pytest.mark.parametrize(
    ("members", "compression", "message"),
    [
        ((("x.txt", ONES),), zipfile.ZIP_STORED, "'x.txt' cannot be an input's name"),
        ((("x.npy", ONES),), zipfile.ZIP_LZMA, "compressed in a way that NumPy does not write"),
        ((), zipfile.ZIP_STORED, "the file holds 0 arrays"),
    ],
)
def test_archives_of_other_things_are_refused(
    tmp_path: Path, members: tuple[tuple[str, bytes], ...], compression: int, message: str
) -> None:
    write_zip(tmp_path / "a.npz", *members, compression=compression)
    with pytest.raises(DataError, match=message):
        stored_arrays(Origin(tmp_path / "a.npz"))


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(ONES)
    with pytest.raises(DataError, match="the arrays cannot be read: File is not a zip file"):
        stored_arrays(Origin(tmp_path / "a.npz"))


def test_a_flipped_byte_is_found_by_the_archives_checksum(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.npz", ("x.npy", ONES))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(b"\x00\x00\x80\x3f") + 2] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match="Bad CRC-32"):
        prepared(tmp_path, wanted())


def test_more_bytes_than_compression_can_make_are_refused_unread(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((1000, 1000), np.uint8))
    honest = (tmp_path / "a.npz").read_bytes()
    assert stored_arrays(Origin(tmp_path / "a.npz"))[0].rows == 1000
    central = honest.rindex(b"PK\x01\x02")
    forged = honest[: central + 24] + struct.pack("<I", 2**32 - 2) + honest[central + 28 :]
    (tmp_path / "a.npz").write_bytes(forged)
    with pytest.raises(DataError, match="declare 4,294,967,294 bytes of arrays"):
        stored_arrays(Origin(tmp_path / "a.npz"))


def test_memory_is_bounded_by_batches(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((60, 1 << 20), np.uint8))
    found = [Origin(tmp_path / "a.npz")]
    inputs = array_inputs(found)
    tracemalloc.start()
    count = sum(len(batch) for batch in array_batches(found, inputs))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A batch of 4 MiB, what it is read from, and the one before it; the array has 60 MiB.
    assert (count, peak < 20 << 20) == (60, True)


@pytest.mark.parametrize("other", [{"y": np.ones(3, np.uint8)}, {"x": np.ones((3, 2), np.uint8)}, {}])
def test_files_with_other_arrays_than_the_first_are_refused(tmp_path: Path, other: Arrays) -> None:
    np.savez(tmp_path / "1.npz", x=np.ones(3, np.uint8))
    save(tmp_path / "2.npz", ({"x": np.ones(3, np.float32)} | other))
    with pytest.raises(DataError, match=r"the arrays differ in name, dtype or shape from those of .*1\.npz"):
        array_inputs([Origin(tmp_path / "1.npz"), Origin(tmp_path / "2.npz")])


def test_tables_are_no_arrays_and_arrays_no_tables(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n")
    with pytest.raises(DataError, match="the task embedding reads files of arrays"):
        prepared(tmp_path, wanted("a.csv"))
    save(tmp_path / "a.npz", rows())
    table = Reading("image-classification", (Numbers("image", ("p*",)),), Category("c"))
    with pytest.raises(DataError, match="the task image-classification reads no files of arrays"):
        prepare(table, wanted(), tmp_path, tmp_path / "out", 7, silent)
    with pytest.raises(DataError, match="files of arrays and tables in delimited text cannot be one source"):
        source_files(wanted("a.npz", "a.csv"), tmp_path)
