"""IDX files of the MNIST family become arrays, value for value."""

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.data.classes import ClassNumbers
from mlctl.data.idx import open_idx
from mlctl.data.opening import opened_origins
from mlctl.data.origin import Origin
from mlctl.data.preparation import Prepared, prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Pixels, Reading
from mlctl.data.sources import source_of
from mlctl.errors import DataError
from mlctl.events import silent
from mlctl.recipe.prepare import RowData

PIXELS = Pixels("image", (1, 4, 5))
READING = Reading("image-classification", (PIXELS,), Category(None))
Bytes = npt.NDArray[np.uint8]


def images(count: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed).integers(0, 256, (count, 4, 5), dtype=np.uint8)


def labels(count: int, seed: int = 0) -> Bytes:
    return np.random.default_rng(seed + 100).integers(0, 10, count, dtype=np.uint8)


def idx(values: Bytes) -> bytes:
    """The file that holds the array, as the format's page describes it."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def packed(name: str, content: bytes) -> bytes:
    zstd: bytes = pa.Codec("zstd").compress(content, asbytes=True) if name.endswith(".zst") else b""
    return gzip.compress(content) if name.endswith(".gz") else zstd or content


def write(folder: Path, part: str, count: int, seed: int = 0, suffix: str = "") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in ((f"{part}-images-idx3", images(count, seed)), (f"{part}-labels-idx1", labels(count, seed))):
        file = f"{name}-ubyte{suffix}"
        (folder / file).write_bytes(packed(file, idx(values)))


def prepared(base: Path, **keys: Any) -> tuple[Prepared, PreparedData]:
    (base / "out").mkdir()
    wanted = RowData.model_validate({"task": "any"} | keys)
    return prepare(READING, wanted, base, base / "out", 7, silent), PreparedData.open(base / "out")


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_every_image_arrives_with_its_label(tmp_path: Path, suffix: str) -> None:
    write(tmp_path / "data", "train", 60, suffix=suffix)
    write(tmp_path / "data", "t10k", 20, seed=1, suffix=suffix)
    split = {"files": {"train": "data/train-*", "test": "data/t10k-*"}}
    result, data = prepared(tmp_path, split=split)
    assert result.description.labels == tuple(map(str, range(10)))
    assert result.description.rows == {"train": 54, "validation": 6, "test": 20}
    every = np.concatenate([images(60), images(20, 1)])
    classes = np.concatenate([labels(60), labels(20, 1)])
    for found in data.splits:
        assert found.inputs[0].dtype == np.uint8
        assert np.array_equal(found.inputs[0][:, 0], every[found.rows])
        assert np.array_equal(found.targets, classes[found.rows])


def test_several_pairs_of_one_folder_and_a_folder_as_a_whole_are_read_in_order(tmp_path: Path) -> None:
    for number, name in enumerate(("a-train", "b-train", "c/a-train")):
        write(tmp_path / "data" / Path(name).parent, Path(name).name, 5, seed=number)
    (tmp_path / "data" / "README.md").write_text("about")
    (tmp_path / "staging").mkdir()
    settings = RowData(task="any", source=("data",))
    _, found = source_of(opened_origins(settings, tmp_path, tmp_path / "staging", silent))
    read = np.concatenate([batch.inputs[0] for batch in open_idx(found, PIXELS, ClassNumbers()).batches])
    assert np.array_equal(read[:, 0], np.concatenate([images(5, seed) for seed in range(3)]))


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 30), batch_bytes=st.integers(1, 300), suffix=st.sampled_from(["", ".gz", ".zst"]))
def test_batches_of_any_size_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch_bytes: int, suffix: str
) -> None:
    folder = tmp_path_factory.mktemp("idx")
    write(folder, "train", count, suffix=suffix)
    classes = ClassNumbers()
    batches = list(open_idx([Origin(path) for path in folder.iterdir()], PIXELS, classes, batch_bytes).batches)
    assert np.array_equal(np.concatenate([each.inputs[0] for each in batches])[:, 0], images(count))
    targets = np.concatenate([each.targets for each in batches]).astype(np.int64)
    assert [classes.labels()[each] for each in classes.renumbered(targets)] == list(map(str, labels(count)))
    assert batches[-1].position == sum(path.stat().st_size for path in folder.iterdir())


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("train-images*", "the file of labels for these images is not among the files that the recipe names"),
        ("train-labels*", "the file of images for these labels is not among the files that the recipe names"),
    ],
)
def test_a_file_without_its_partner_is_refused(tmp_path: Path, source: str, missing: str) -> None:
    write(tmp_path, "train", 5)
    with pytest.raises(DataError, match=missing) as caught:
        prepared(tmp_path, source=source)
    assert caught.value.where == f"{tmp_path}/{source.replace('*', '-idx3' if 'images' in source else '-idx1')}-ubyte"


def test_a_partner_in_another_split_is_none(tmp_path: Path) -> None:
    write(tmp_path, "train", 5)
    with pytest.raises(DataError, match="the file of labels for these images is not among"):
        prepared(tmp_path, split={"files": {"train": "*images*", "test": "*labels*"}})


def test_two_files_for_the_same_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "train", 5)
    write(tmp_path, "train", 5, suffix=".gz")
    with pytest.raises(DataError, match="are for the same"):
        prepared(tmp_path, source="train-*")


IMAGES, LABELS = idx(images(5)), idx(labels(5))


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("images-idx3", b"", "no IDX file of unsigned bytes in 3 dimensions"),
        ("images-idx3", IMAGES[:10], "no IDX file of unsigned bytes in 3 dimensions"),
        ("images-idx3", LABELS, "no IDX file of unsigned bytes in 3 dimensions"),
        ("labels-idx1", IMAGES, "no IDX file of unsigned bytes in 1 dimensions"),
        ("images-idx3", b"\0\0\x0d\x03" + IMAGES[4:], "no IDX file of unsigned bytes in 3 dimensions"),
        ("images-idx3", IMAGES[:-1], r"declares 116 bytes \(5 x 4 x 5\), the file has 115"),
        ("images-idx3", IMAGES + b"0", r"declares 116 bytes \(5 x 4 x 5\), the file has 117"),
        ("images-idx3", IMAGES[:4] + b"\xff" * 12, "declares .* the file has 16"),
        ("images-idx3", idx(images(0)), r"declares 16 bytes \(0 x 4 x 5\)"),
        ("images-idx3", idx(images(6)), "6 images have 5 labels"),
        ("images-idx3", idx(images(5).reshape(5, 5, 4)), r"of the shape \[1, 5, 4\], the recipe says \[1, 4, 5\]"),
        ("labels-idx1", idx(labels(4)), "5 images have 4 labels"),
        ("images-idx3.gz", gzip.compress(IMAGES[:4] + b"\xff" * 12, mtime=0), "declares"),
        ("images-idx3.gz", gzip.compress(IMAGES[:-1], mtime=0), "shorter than its header says"),
        ("images-idx3.gz", gzip.compress(IMAGES + b"0", mtime=0), "longer than its header says"),
        ("images-idx3.gz", gzip.compress(IMAGES, mtime=0)[:-12], "breaks off|shorter"),
        ("images-idx3.gz", gzip.compress(IMAGES, mtime=0)[:-8] + b"12345678", "not intact gzip"),
        ("labels-idx1.gz", gzip.compress(LABELS + b"0", mtime=0), "longer than its header says"),
    ],
)
def test_a_file_that_is_not_what_its_header_says_is_refused(
    tmp_path: Path, name: str, content: bytes, what: str
) -> None:
    write(tmp_path, "train", 5)
    stem, _, codec = name.partition(".")
    (tmp_path / f"train-{stem}-ubyte").unlink()
    bad = tmp_path / f"train-{stem}-ubyte{'.' if codec else ''}{codec}"
    bad.write_bytes(content)
    with pytest.raises(DataError, match=what) as caught:
        prepared(tmp_path, source="train-*")
    assert str(caught.value.where) in (str(bad), f"{tmp_path}/train-images-idx3-ubyte")


@pytest.mark.parametrize(
    ("reading", "keys", "what"),
    [
        (Reading("image-classification", (PIXELS,), Category("digit")), {}, "IDX files have no column 'digit'"),
        (READING, {"split": {"column": "part"}}, "IDX files have no column 'part'"),
    ],
)
def test_columns_of_what_has_none_are_refused(
    tmp_path: Path, reading: Reading, keys: dict[str, Any], what: str
) -> None:
    write(tmp_path, "train", 5)
    (tmp_path / "out").mkdir()
    wanted = RowData.model_validate({"task": "any", "source": "train-*"} | keys)
    with pytest.raises(DataError, match=what):
        prepare(reading, wanted, tmp_path, tmp_path / "out", 7, silent)
