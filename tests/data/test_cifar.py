"""CIFAR's binary files become arrays, value for value."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.data.cifar import open_cifar
from mlctl.data.classes import ClassNumbers
from mlctl.data.origin import Origin
from mlctl.data.preparation import Prepared, prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Pixels, Reading
from mlctl.errors import DataError
from mlctl.events import silent
from mlctl.recipe.prepare import RowData

PIXELS = Pixels("image", (3, 32, 32))
NAMES = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
SPLIT = {"files": {"train": ("data_batch_*.bin", "*.txt"), "test": "test_batch.bin"}}
SPLIT_100 = {"files": {"train": ("train.bin", "*.txt"), "test": "test.bin"}}


def images(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)


def classes(count: int, seed: int = 0, most: int = 10) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed + 100).integers(0, most, count, dtype=np.uint8)


def records(*columns: npt.NDArray[np.uint8]) -> bytes:
    """Rows of labels and pixels, as the format's page describes them."""
    return np.concatenate([each.reshape(len(each), -1) for each in columns], axis=1).tobytes()


def write_10(folder: Path, has_names: bool = True) -> None:
    for number in (1, 2):
        content = records(classes(20, number), images(20, number))
        (folder / f"data_batch_{number}.bin").write_bytes(content)
    (folder / "test_batch.bin").write_bytes(records(classes(10, 3), images(10, 3)))
    if has_names:
        (folder / "batches.meta.txt").write_text("\n".join(NAMES) + "\n\n")


def write_100(folder: Path) -> None:
    for number, name in enumerate(("train", "test")):
        coarse, fine = classes(20, number, 20), classes(20, number, 100)
        (folder / f"{name}.bin").write_bytes(records(coarse, fine, images(20, number)))
    (folder / "coarse_label_names.txt").write_text("".join(f"group {number}\n" for number in range(20)))
    (folder / "fine_label_names.txt").write_text("".join(f"kind {number}\n" for number in range(100)))


def prepared(base: Path, label: str | None = None, into: str = "out", **keys: Any) -> tuple[Prepared, PreparedData]:
    (base / into).mkdir()
    wanted = RowData.model_validate({"task": "any"} | keys)
    reading = Reading("image-classification", (PIXELS,), Category(label))
    return prepare(reading, wanted, base, base / into, 7, silent), PreparedData.open(base / into)


def check(result: Prepared, data: PreparedData, pixels: npt.NDArray[np.uint8], names: list[str]) -> None:
    """Every row of every split is the image and the label of its place in the source."""
    for split in data.splits:
        assert split.inputs[0].dtype == np.uint8
        assert np.array_equal(split.inputs[0], pixels[split.rows])
        assert [result.description.labels[each] for each in split.targets] == [names[row] for row in split.rows]


@pytest.mark.parametrize("has_names", [True, False])
def test_every_image_of_cifar_10_arrives_with_its_label(tmp_path: Path, has_names: bool) -> None:
    write_10(tmp_path, has_names)
    split = SPLIT if has_names else {"files": {"train": "data_batch_*.bin", "test": "test_batch.bin"}}
    result, data = prepared(tmp_path, split=split)
    assert result.description.rows == {"train": 36, "validation": 4, "test": 10}
    numbers = np.concatenate([classes(20, 1), classes(20, 2), classes(10, 3)])
    names = [NAMES[number] if has_names else str(number) for number in numbers]
    check(result, data, np.concatenate([images(20, 1), images(20, 2), images(10, 3)]), names)


@pytest.mark.parametrize(
    ("label", "name", "most"), [(None, "kind", 100), ("fine", "kind", 100), ("coarse", "group", 20)]
)
def test_every_image_of_cifar_100_arrives_with_the_label_that_is_wanted(
    tmp_path: Path, label: str | None, name: str, most: int
) -> None:
    write_100(tmp_path)
    result, data = prepared(tmp_path, label, split=SPLIT_100)
    numbers = np.concatenate([classes(20, number, most) for number in (0, 1)])
    names = [f"{name} {number}" for number in numbers]
    check(result, data, np.concatenate([images(20, 0), images(20, 1)]), names)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(count=st.integers(1, 12), batch_bytes=st.integers(1, 20_000))
def test_batches_of_any_size_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch_bytes: int
) -> None:
    path = tmp_path_factory.mktemp("cifar") / "data_batch_1.bin"
    path.write_bytes(records(classes(count), images(count)))
    batches = list(open_cifar([Origin(path)], PIXELS, None, ClassNumbers(), batch_bytes).batches)
    assert np.array_equal(np.concatenate([each.inputs[0] for each in batches]), images(count))
    assert np.concatenate([each.rows for each in batches]).tolist() == list(range(count))
    assert batches[-1].position == path.stat().st_size


def test_a_label_beyond_the_data_sets_is_a_bad_row(tmp_path: Path) -> None:
    write_10(tmp_path)
    numbers = classes(20, 2)
    numbers[[3, 7]] = 10, 255
    (tmp_path / "data_batch_2.bin").write_bytes(records(numbers, images(20, 2)))
    with pytest.raises(DataError) as caught:
        prepared(tmp_path, split=SPLIT)
    assert caught.value.what == (
        "2 rows cannot be used\n"
        f"  {tmp_path}/data_batch_2.bin: record 4 has the label 10; CIFAR-10's go from 0 to 9\n"
        f"  {tmp_path}/data_batch_2.bin: record 8 has the label 255; CIFAR-10's go from 0 to 9"
    )
    result, data = prepared(tmp_path, into="other", split=SPLIT, on_bad="skip")
    assert result.bad_rows == 2
    rows = {row for split in data.splits for row in split.rows.tolist()}
    assert set(range(50)) - rows == {23, 27}


@pytest.mark.parametrize(
    ("file", "content", "what"),
    [
        ("data_batch_1.bin", b"", "0 bytes are no whole number of CIFAR-10's records"),
        ("data_batch_1.bin", bytes(3073 * 2 - 1), "6,145 bytes are no whole number of CIFAR-10's records"),
        ("train.bin", bytes(3074), "files of CIFAR-10 and of CIFAR-100 cannot be one source"),
        ("batches.meta.txt", b"a\nb\n", "names 2 different labels on 2 lines; there are 10"),
        ("batches.meta.txt", b"a\n" * 10, "names 1 different labels on 10 lines; there are 10"),
        ("batches.meta.txt", b"\xff\n" * 10, "not UTF-8"),
    ],
)
def test_what_is_not_as_the_format_says_is_refused(tmp_path: Path, file: str, content: bytes, what: str) -> None:
    write_10(tmp_path)
    (tmp_path / file).write_bytes(content)
    train = ("data_batch_*.bin", "batches.meta.txt", *(["train.bin"] if file == "train.bin" else []))
    split = {"files": {"train": train, "test": "test_batch.bin"}}
    with pytest.raises(DataError, match=what) as caught:
        prepared(tmp_path, split=split)
    assert str(caught.value.where).startswith(f"{tmp_path}/")


def test_names_without_images_are_refused(tmp_path: Path) -> None:
    write_10(tmp_path)
    with pytest.raises(DataError, match="hold no images"):
        prepared(tmp_path, source="batches.meta.txt")


@pytest.mark.parametrize(
    ("label", "shape", "what"),
    [
        ("fine", (3, 32, 32), "CIFAR-10 has one label for each image, none that is called 'fine'"),
        ("digit", (3, 32, 32), "CIFAR files have no column 'digit'"),
        (None, (1, 32, 32), r"of the shape \[3, 32, 32\], the recipe says \[1, 32, 32\]"),
    ],
)
def test_what_the_files_cannot_give_is_refused(
    tmp_path: Path, label: str | None, shape: tuple[int, int, int], what: str
) -> None:
    write_10(tmp_path)
    (tmp_path / "out").mkdir()
    reading = Reading("image-classification", (Pixels("image", shape),), Category(label))
    wanted = RowData.model_validate({"task": "any", "split": SPLIT})
    with pytest.raises(DataError, match=what):
        prepare(reading, wanted, tmp_path, tmp_path / "out", 7, silent)
