"""What is served from a graph's own file is what was prepared: the same numbers, bit for bit, and the same answers."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from conftest import Lab
from graphs_from_elsewhere import linear
from natural_models import Served, served
from PIL import ExifTags, Image
from sklearn.datasets import load_digits

from mlctl.serving.refusals import Malformed, WrongMedia

FIT = "train:\n  model: {arch: linear}\n  epochs: 1\n  batch_size: 32\n  precision: float32\n"
DIGITS = f"""\
mlctl: 1
name: digits
seed: 7
prepare:
  task: image-classification
  source: digits.csv
  image: {{columns: "pixel_*", shape: [1, 8, 8], scale: 16, standardize: true}}
  label: digit
{FIT}export: {{}}
quantize: {{method: static, calibration: {{samples: 32}}}}
quantize.half: {{from: export, method: float16}}
"""
PHOTOS = f"""\
mlctl: 1
name: photos
seed: 7
prepare:
  task: image-classification
  source: photos
  image: {{shape: [3, 6, 8], standardize: true}}
{FIT}export: {{}}
"""
LEARN = "model: {arch: linear}, epochs: 1, precision: float32"
SUMS = f"""\
mlctl: 1
name: sums
seed: 3
prepare.whole: {{task: regression, source: whole.csv, features: {{columns: [a, b]}}, target: y}}
prepare.broken: {{task: regression, source: broken.csv, features: {{columns: [a, b]}}, target: y}}
train.whole: {{data: prepare.whole, {LEARN}}}
train.broken: {{data: prepare.broken, {LEARN}}}
export.whole: {{from: train.whole}}
export.broken: {{from: train.broken}}
export.elsewhere: {{from: elsewhere.onnx}}
"""
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """300 of the handwritten digits of scikit-learn (UCI, Alpaydin and Kaynak 1998), down to integers and halves."""
    lab = Lab(tmp_path_factory.mktemp("digits"))
    data = load_digits()
    names = ",".join(f"pixel_{number}" for number in range(64))
    lines = [
        ",".join(f"{pixel:g}" for pixel in image) + f",{digit}"
        for image, digit in zip(data.data[:300], data.target[:300], strict=True)
    ]
    (lab.folder / "digits.csv").write_text("\n".join([f"{names},digit", *lines]) + "\n")
    (lab.folder / "recipe.yaml").write_text(DIGITS)
    result = lab("run recipe.yaml --threads 1")
    assert result.code == 0, result.err
    return lab


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A folder of class folders, of many sizes, modes, formats and orientations."""
    lab = Lab(tmp_path_factory.mktemp("photos"))
    dice = np.random.default_rng(5)
    kinds = (
        ("png", "RGB"),
        ("jpg", "RGB"),
        ("png", "P"),
        ("png", "LA"),
        ("tif", "CMYK"),
        ("webp", "RGB"),
        ("gif", "L"),
    )
    for number in range(42):
        suffix, mode = kinds[number % len(kinds)]
        path = lab.folder / "photos" / ("cat", "dog")[number % 2] / f"{number:02}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (int(dice.integers(4, 40)), int(dice.integers(4, 40)), 3)
        exif = Image.Exif()
        exif[ExifTags.Base.Orientation] = 1 + number % 8
        picture = Image.fromarray(dice.integers(0, 256, size, dtype=np.uint8)).convert(mode)
        picture.save(path) if suffix == "gif" else picture.save(path, exif=exif)
    (lab.folder / "recipe.yaml").write_text(PHOTOS)
    result = lab("run recipe.yaml --threads 1")
    assert result.code == 0, result.err
    return lab


def rows_of(lab: Lab) -> list[dict[str, object]]:
    header, *lines = (lab.folder / "digits.csv").read_text().splitlines()
    return [dict(zip(header.split(","), map(float, line.split(",")), strict=True)) for line in lines]


def model(lab: Lab, recipe: str, step: str = "export") -> Served:
    return served(lab.artifact(recipe, step) / "model.onnx")


@pytest.mark.parametrize("step", ["export", "quantize", "quantize.half"])
def test_rows_of_the_table_are_the_prepared_arrays_bit_for_bit_and_get_the_same_answers(digits: Lab, step: str) -> None:
    found, rows = model(digits, "digits", step), rows_of(digits)
    labels = json.loads((digits.artifact("digits", "prepare") / "data.json").read_text())["labels"]
    assert found.signature.meaning.task == "image-classification"
    assert found.natural.kinds == {"image", "row"}
    for split in SPLITS:
        folder = digits.artifact("digits", "prepare") / split
        prepared, places = np.load(folder / "image.npy"), np.load(folder / "row.npy")
        (given,) = found.natural.from_rows([rows[place] for place in places])  # with the label, as it is in the table
        assert (given.dtype, given.shape) == (prepared.dtype, prepared.shape)
        assert given.tobytes() == prepared.tobytes()
        expected = found.session((np.ascontiguousarray(prepared),))
        answers = found.natural.meant(found.session.all((given,)))
        for answer, row in zip(answers, expected, strict=True):
            assert isinstance(answer, dict)
            assert answer["label"] == labels[row.argmax()]
            shares = np.array([answer["probabilities"][label] for label in labels], np.float32)
            assert shares.tobytes() == row.tobytes()
            assert np.float32(answer["probability"]) == row.max()


def test_a_picture_of_a_digit_is_the_row_that_it_was_drawn_from(digits: Lab, tmp_path: Path) -> None:
    """Gray values 0 to 16 are drawn as 0 to 255, whose sixteenths are rounded: far less than half a step of 16."""
    found = model(digits, "digits")
    (prepared,) = found.natural.from_rows(rows_of(digits)[:20])
    for number, row in enumerate(prepared):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.rint(row[0] * np.float64(255 / 16)).astype(np.uint8)).save(path)
        (given,) = found.natural.from_image(path.read_bytes())
        assert given.tobytes() == row.tobytes()


def test_files_of_images_are_the_prepared_arrays_bit_for_bit_and_get_the_same_answers(photos: Lab) -> None:
    found = model(photos, "photos")
    files = sorted(path for path in (photos.folder / "photos").rglob("*") if path.is_file())
    assert found.natural.kinds == {"image"}
    for split in SPLITS:
        folder = photos.artifact("photos", "prepare") / split
        prepared = np.load(folder / "image.npy")
        for image, place in zip(prepared, np.load(folder / "row.npy"), strict=True):
            (given,) = found.natural.from_image(files[place].read_bytes())
            assert given.dtype == np.uint8
            assert given.tobytes() == image.tobytes()
            (answer,) = found.natural.meant(found.session.all((given,)))
            assert isinstance(answer, dict)
            assert answer["label"] == ("cat", "dog")[found.session((image[np.newaxis],)).argmax()]


def test_what_prepare_would_not_read_is_refused(digits: Lab, photos: Lab) -> None:
    table, pictures = model(digits, "digits").natural, model(photos, "photos").natural
    row = rows_of(digits)[0]
    del row["pixel_63"]
    with pytest.raises(Malformed, match="row 1: column 'pixel_63' is missing"):
        table.from_rows([rows_of(digits)[0], row])
    with pytest.raises(Malformed, match="no image of a known format"):
        pictures.from_image(b"no image")
    with pytest.raises(WrongMedia, match="takes no rows of named columns; it takes images and tensors"):
        pictures.from_rows(rows_of(digits)[:1])
    with pytest.raises(WrongMedia, match="takes no texts; it takes images, rows and tensors"):
        table.from_texts(["a text"])


def test_a_regression_takes_rows_and_answers_in_the_targets_unit(tmp_path: Path) -> None:
    """y = 2 a - b of whole numbers in one table, of others in the next; and a graph from elsewhere."""
    lab, dice = Lab(tmp_path), np.random.default_rng(3)
    for name, unit in (("whole", 1.0), ("broken", 0.5)):
        pairs = dice.integers(0, 200, (80, 2)) * unit
        lines = [f"{a:g},{b:g},{2 * a - b:g}" for a, b in pairs]
        (tmp_path / f"{name}.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    onnx.save(linear(2, 1), tmp_path / "elsewhere.onnx")
    (tmp_path / "recipe.yaml").write_text(SUMS)
    result = lab("run recipe.yaml --threads 1")
    assert result.code == 0, result.err
    for step, dtype in (("whole", np.uint8), ("broken", np.float32), ("elsewhere", np.float32)):
        found = model(lab, "sums", f"export.{step}")
        assert found.natural.kinds == {"row"}
        (given,) = found.natural.from_rows([{"b": 7, "a": 100}, {"a": "3", "b": 255.0}])
        assert given.dtype == dtype
        assert given.tolist() == [[100, 7], [3, 255]]
        answers = found.natural.meant(found.session.all((given,)))
        expected = found.session((given,)).tolist()
        assert [np.float32(each["prediction"]) for each in answers if isinstance(each, dict)] == expected
    with pytest.raises(Malformed, match="row 1: column 'b' holds 0\\.5; the model learnt whole"):
        model(lab, "sums", "export.whole").natural.from_rows([{"a": 1, "b": 2}, {"a": 1, "b": 0.5}])
