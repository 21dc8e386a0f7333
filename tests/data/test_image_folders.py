"""Folders of images become arrays."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import ExifTags, Image, ImageOps

from mlctl.data.batches import BadRow
from mlctl.data.image_decoding import decoded
from mlctl.data.images import decode
from mlctl.data.origin import Origin
from mlctl.data.preparation import Prepared, prepare
from mlctl.data.prepared import PreparedData
from mlctl.data.reading import Category, Numbers, Pixels, Reading
from mlctl.errors import DataError
from mlctl.events import Event, Tell, Warned, silent
from mlctl.recipe.prepare import RowData

READING = Reading("image-classification", (Pixels("image", (3, 4, 6), standardize="first-axis"),), Category(None))


def write_image(path: Path, seed: int, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).convert(mode).save(path)


def write_folder(base: Path, count: int = 12) -> None:
    for index in range(count):
        write_image(base / "photos" / ("cat", "ant", "dog")[index % 3] / f"{index:03}.png", index)


def prepared(base: Path, into: str = "out", tell: Tell = silent, **keys: object) -> tuple[Prepared, PreparedData]:
    (base / into).mkdir()
    wanted = RowData.model_validate({"task": "any", "source": "photos", "split": {"stratify": True}} | keys)
    return prepare(READING, wanted, base, base / into, 7, tell), PreparedData.open(base / into)


def warnings_of(base: Path, source: str | None = "photos", split: object = None) -> list[str]:
    events: list[Event] = []
    prepared(base, "out", events.append, source=source, split=split or {"stratify": True})
    return [event.text.replace(f"{base}/", "") for event in events if isinstance(event, Warned)]


def test_every_image_arrives_with_its_folder_as_class(tmp_path: Path) -> None:
    write_folder(tmp_path, 30)
    result, data = prepared(tmp_path)
    files = sorted((tmp_path / "photos").rglob("*.png"))
    assert result.description.labels == ("ant", "cat", "dog")
    assert result.description.target.name == "class"
    assert result.description.inputs[0].columns == ()
    for name in ("train", "validation", "test"):
        split = data.split(name)
        for values, target, row in zip(split.inputs[0], split.targets, split.rows, strict=True):
            assert files[row].parent.name == result.description.labels[target]
            assert values.transpose(1, 2, 0).tolist() == np.asarray(Image.open(files[row])).tolist()
    train = data.split("train").inputs[0] / 255
    assert result.description.input_scaling[0].mean == pytest.approx(train.mean(axis=(0, 2, 3)), rel=1e-12)
    assert result.description.input_scaling[0].deviation == pytest.approx(train.std(axis=(0, 2, 3)), rel=1e-12)


def test_a_class_folder_without_images_is_told_of(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for name in ("bird", "eel/inner", ".hidden"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    (tmp_path / "photos" / "eel" / "notes.txt").write_text("no eels yet")
    assert warnings_of(tmp_path) == ["there are no files of images in photos/bird, photos/eel"]


def test_an_image_deep_in_a_class_folder_fills_it(tmp_path: Path) -> None:
    write_folder(tmp_path)
    for index in range(3):
        write_image(tmp_path / "photos" / "bird" / "winter" / f"{index}.png", index)
    assert warnings_of(tmp_path) == []


def test_every_folder_that_the_splits_name_is_looked_at(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for index in range(8):
            write_image(tmp_path / split / "ab"[index % 2] / f"{index}.png", index + 10 * (split == "test"))
        (tmp_path / split / f"{split}ed").mkdir()
    files = {"files": {"train": "train", "test": "test"}, "validation": 0.5}
    assert warnings_of(tmp_path, source=None, split=files) == [
        "there are no files of images in test/tested, train/trained"
    ]


def test_a_larger_image_is_averaged_down_and_not_sampled(tmp_path: Path) -> None:
    """A fine checkerboard of 0 and 255 becomes gray; picking single pixels would leave black and white."""
    board = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    Image.fromarray(board).save(tmp_path / "board.png")
    values = decode(Origin(tmp_path / "board.png"), (1, 4, 4))
    assert not isinstance(values, BadRow)
    assert values.shape == (1, 4, 4)
    assert values.min() >= 126
    assert values.max() <= 129


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_common_mode_is_converted(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.tif" if mode == "CMYK" else "image.png")
    write_image(path, 1, mode=mode)
    values = decode(Origin(path), (3, 4, 6))
    assert not isinstance(values, BadRow)
    assert values.transpose(1, 2, 0).tolist() == np.asarray(Image.open(path).convert("RGB")).tolist()


def test_gray_is_one_channel(tmp_path: Path) -> None:
    write_image(tmp_path / "image.png", 1, mode="L")
    values = decode(Origin(tmp_path / "image.png"), (1, 4, 6))
    assert not isinstance(values, BadRow)
    assert values[0].tolist() == np.asarray(Image.open(tmp_path / "image.png")).tolist()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright_as_its_camera_was_held(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = tmp_path / f"image.{suffix}"
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    values = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(values).save(path, exif=exif, quality=100)
    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    found = decode(Origin(path), (3, *upright.shape[:2]))
    assert not isinstance(found, BadRow)
    assert found.transpose(1, 2, 0).tolist() == upright.tolist()


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_a_file_and_its_bytes_are_the_same_image(tmp_path: Path, mode: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    values = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    path = tmp_path / "image.tif"
    Image.fromarray(values).convert(mode).save(path, exif=exif)
    with Image.open(io.BytesIO(path.read_bytes())) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    for source in (path, path.read_bytes()):
        found = decoded(source, (3, *upright.shape[:2]))
        assert found.transpose(1, 2, 0).tolist() == upright.tolist()


def test_a_large_photograph_is_turned_before_it_is_made_small(tmp_path: Path) -> None:
    """JPEG is decoded at a fraction of its size, in which each side must be long enough when it is upright."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    ramp = np.linspace(0, 255, 800).astype(np.uint8)
    Image.fromarray(np.broadcast_to(ramp, (100, 800))).save(tmp_path / "image.jpg", exif=exif, quality=95)
    found = decode(Origin(tmp_path / "image.jpg"), (1, 200, 25))
    assert not isinstance(found, BadRow)
    # Dark above, bright below; a step of the ramp is 1.3, what JPEG and rounding add is a few.
    assert np.abs(found[0].mean(axis=1) - np.linspace(0, 255, 200)).max() < 5


def test_orientations_that_cannot_be_read_are_upright(tmp_path: Path) -> None:
    values = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(values).save(tmp_path / "image.png", exif=b"Exif\0\0not any of it")
    found = decode(Origin(tmp_path / "image.png"), (3, 4, 6))
    assert not isinstance(found, BadRow)
    assert found.transpose(1, 2, 0).tolist() == values.tolist()


def test_what_a_file_holds_counts_and_not_its_name(tmp_path: Path) -> None:
    """An EPS file is a program; under an image's name it must not be run."""
    Image.new("RGB", (6, 4)).save(tmp_path / "image.eps")
    (tmp_path / "image.eps").rename(tmp_path / "image.png")
    assert decode(Origin(tmp_path / "image.png"), (3, 4, 6)) == BadRow(
        str(tmp_path / "image.png"), None, "the image cannot be decoded: this is no image of a known format"
    )


def damaged(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(buffer, "png")
    whole = buffer.getvalue()
    return {"text": b"not an image", "empty": b"", "cut": whole[:3000], "flipped": whole[:50] + b"x" + whole[51:]}[kind]


@pytest.mark.parametrize("kind", ["text", "empty", "cut", "flipped"])
def test_a_damaged_image_is_a_bad_row_named_by_its_path(tmp_path: Path, kind: str) -> None:
    write_folder(tmp_path)
    path = tmp_path / "photos" / "cat" / "broken.png"
    path.write_bytes(damaged(kind))
    with pytest.raises(DataError, match="1 row cannot be used") as caught:
        prepared(tmp_path)
    assert f"{path}: the image cannot be decoded" in caught.value.what
    result, data = prepared(tmp_path, into="other", on_bad="skip")
    assert result.bad_rows == 1
    assert "photos/cat/broken.png,," in (tmp_path / "other" / "bad_rows.csv").read_text()
    # Sorted, the four ants come first, then the four cats, then what is broken: row 8 is missing.
    used = sorted(row for split in data.splits for row in split.rows)
    assert used == [0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12]


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lower limit stands for a huge image, which would take a second and a gigabyte to write."""
    write_folder(tmp_path)
    write_image(tmp_path / "photos" / "cat" / "bomb.png", 1, size=(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
    with pytest.raises(DataError, match=r"bomb\.png: the image has more than 300 pixels"):
        prepared(tmp_path)


def test_sixteen_bits_per_channel_are_a_bad_row_and_not_cut_off(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 6), 40_000, dtype=np.uint16)).save(tmp_path / "deep.png")
    assert decode(Origin(tmp_path / "deep.png"), (1, 4, 6)) == BadRow(
        str(tmp_path / "deep.png"), None, "the image has more than 8 bits per channel (mode I;16)"
    )


@pytest.fixture
def cpu_count() -> Iterator[None]:
    before = pa.cpu_count()
    yield
    pa.set_cpu_count(before)


@pytest.mark.usefixtures("cpu_count")
def test_the_bytes_do_not_depend_on_the_number_of_threads(tmp_path: Path) -> None:
    write_folder(tmp_path, 60)
    made = []
    for threads in (1, 3):
        pa.set_cpu_count(threads)
        prepared(tmp_path, into=str(threads))
        folder = tmp_path / str(threads)
        made.append({path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()})
    assert len(made[0]) == 11
    assert made[0] == made[1]


def test_folders_can_be_the_splits(tmp_path: Path) -> None:
    for name in ("train", "test"):
        for index in range(6):
            write_image(tmp_path / name / "ab"[index % 2] / f"{index}.png", index)
    split = {"files": {"train": "train", "test": "test"}, "validation": 0.34, "stratify": True}
    _, data = prepared(tmp_path, source=None, split=split)
    assert [len(each) for each in data.splits] == [4, 2, 6]
    assert sorted(data.split("validation").targets) == [0, 1]


@pytest.mark.parametrize(
    ("reading", "what"),
    [
        (Reading("t", (Numbers("image", ("p*",)),), Category(None)), "files of images have no columns"),
        (Reading("t", READING.inputs, Category("label")), "files of images have no column 'label'"),
        (Reading("t", (Pixels("image", (4, 2, 2)),), Category(None)), "1 or 3 channels, not 4"),
    ],
)
def test_what_images_cannot_give_is_refused(tmp_path: Path, reading: Reading, what: str) -> None:
    write_folder(tmp_path)
    with pytest.raises(DataError, match=what):
        prepare(reading, RowData(task="any", source=("photos",)), tmp_path, tmp_path, 7, silent)
