"""A first recipe for data that nobody has described: it loads, is wired, and means that data."""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlctl.errors import DataError, UsageError
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.prepare import ImageClassificationData, RegressionData
from mlctl.recipe.recipe import Recipe
from mlctl.stages.assembly import assemble
from mlctl.stages.draft import draft_recipe

PIXELS = [f"pixel_{number}" for number in range(16)]
ODD_NAMES = (
    'a"b', "it's", "*", "a[b]", "x: y", "# no comment", "Größe", "日本", "😀", "a\\b", "a,b", "two\nlines", "\x85",
    "~", "null", "yes", "- a", "{", "\x07", "\x7f", "q\ufeff", " around ", "tab\tbed", "%", "&anchor", "!tag",
    "a\u2028b", "${HOME}", "1",
)  # fmt: skip


def table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> Path:
    """A table in delimited text."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])
    return path


def drafted(data: Path, target: str | None = None) -> tuple[str, Recipe]:
    """The draft for the data, and what it means when it lies beside it."""
    path = data.parent / "recipe.yaml"
    text = draft_recipe(data, target, data.parent)
    path.write_text(text, encoding="utf-8")
    recipe = load_recipe(path)
    assemble(recipe)
    return text, recipe


def images_of(recipe: Recipe) -> ImageClassificationData:
    """What the recipe prepares, which is images."""
    prepare = recipe.step("prepare").settings
    assert isinstance(prepare, ImageClassificationData)
    return prepare


def numbers_of(recipe: Recipe) -> RegressionData:
    """What the recipe prepares, which is numbers."""
    prepare = recipe.step("prepare").settings
    assert isinstance(prepare, RegressionData)
    return prepare


def pixel_rows(count: int, largest: int) -> list[list[Any]]:
    """Rows of 16 pixels from 0 to `largest`, and one of two classes."""
    return [
        [(row + place) % (largest + 1) for place in range(16)] + ["left" if row % 2 else "right"]
        for row in range(count)
    ]


def number_rows(count: int) -> list[list[Any]]:
    """Rows of three numbers."""
    return [[row + 0.5, row * 2.25, row * 3 - 0.1] for row in range(count)]


def test_a_table_of_pixels_is_images(tmp_path: Path) -> None:
    data = table(tmp_path / "Small Digits.csv", [*PIXELS, "side"], pixel_rows(40, 15))
    text, recipe = drafted(data)
    prepare = images_of(recipe)
    assert recipe.name == "small-digits"
    assert prepare.source == ("Small Digits.csv",)
    assert prepare.image.columns == ("pixel_*",)
    assert (prepare.image.shape, prepare.image.scale, prepare.label) == ((1, 4, 4), 15, "side")
    assert [step.name for step in recipe.steps] == ["prepare", "train", "export", "eval"]
    assert '# 40 rows: 4 x 4 pixels of 0 to 15, 2 classes in "side"' in text


@pytest.mark.parametrize(
    ("largest", "columns", "is_image"), [(255, 16, True), (256, 16, False), (255, 15, False), (255, 9, False)]
)
def test_pixels_are_whole_numbers_up_to_255_that_fill_a_square(
    tmp_path: Path, largest: int, columns: int, is_image: bool
) -> None:
    rows = [[*row[:columns], number] for number, row in enumerate(pixel_rows(300, largest))]
    _, recipe = drafted(table(tmp_path / "rows.csv", [*PIXELS[:columns], "y"], rows))
    assert isinstance(recipe.step("prepare").settings, ImageClassificationData) == is_image


def test_pixels_without_a_common_beginning_are_listed(tmp_path: Path) -> None:
    names = [chr(97 + place) for place in range(16)]
    _, recipe = drafted(table(tmp_path / "rows.csv", [*names, "side"], pixel_rows(20, 9)))
    assert images_of(recipe).image.columns == tuple(names)


def test_a_table_of_numbers_is_a_regression(tmp_path: Path) -> None:
    data = table(tmp_path / "houses.csv", ["rooms", "age", "price"], number_rows(30))
    _, recipe = drafted(data)
    assert (numbers_of(recipe).features.columns, numbers_of(recipe).target) == (("rooms", "age"), "price")
    _, recipe = drafted(data, "age")
    assert (numbers_of(recipe).features.columns, numbers_of(recipe).target) == (("rooms", "price"), "age")


def test_columns_of_text_are_left_out_and_named(tmp_path: Path) -> None:
    rows = [[1.5 * row, "Berlin", row, ""] for row in range(20)]
    text, recipe = drafted(table(tmp_path / "rows.csv", ["a", "city", "y", "empty"], rows), "y")
    assert numbers_of(recipe).features.columns == ("a",)
    assert '# left out, for they hold text: "city", "empty"' in text


def test_a_folder_of_class_folders_is_images(tmp_path: Path) -> None:
    for number in range(6):
        folder = tmp_path / "pets" / ("cat" if number % 2 else "dog: # big\n")
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 8), (number, 0, 0)).save(folder / f"{number}.png")
    text, recipe = drafted(tmp_path / "pets")
    prepare = images_of(recipe)
    assert (prepare.source, prepare.label, prepare.image.columns) == (("pets",), None, None)
    assert prepare.image.shape == (3, 8, 12)
    assert '# 6 images of 2 classes: "cat", "dog: # big\\n"' in text
    with pytest.raises(UsageError, match="has no columns"):
        draft_recipe(tmp_path / "pets", "cat", tmp_path)


@pytest.mark.parametrize("odd", ODD_NAMES, ids=ascii)
def test_odd_column_names_come_through(tmp_path: Path, odd: str) -> None:
    _, recipe = drafted(table(tmp_path / "feature.csv", [odd, "b", "y"], number_rows(20)))
    assert numbers_of(recipe).features.columns == (odd, "b")
    _, recipe = drafted(table(tmp_path / "target.csv", ["a", "b", odd], number_rows(20)))
    assert numbers_of(recipe).target == odd
    rows = [[row + 0.5, "text", row * 2.5] for row in range(20)]
    _, recipe = drafted(table(tmp_path / "text.csv", ["a", odd, "y"], rows))
    assert numbers_of(recipe).features.columns == ("a",)
    _, recipe = drafted(table(tmp_path / "label.csv", [*PIXELS, odd], pixel_rows(20, 9)))
    assert images_of(recipe).label == odd
    _, recipe = drafted(table(tmp_path / "pixels.csv", [*(f"{odd}{n}" for n in range(16)), "side"], pixel_rows(20, 9)))
    columns = images_of(recipe).image.columns
    assert columns in ((f"{odd}*",), tuple(f"{odd}{n}" for n in range(16)))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), min_size=1, max_size=12),
        min_size=3, max_size=3, unique=True,
    )
)  # fmt: skip
def test_any_column_names_come_through(tmp_path: Path, names: list[str]) -> None:
    if names[0].startswith("\ufeff"):
        names[0] = f"a{names[0]}"  # at the beginning of a file it is a mark of the encoding
    _, recipe = drafted(table(tmp_path / "rows.csv", names, number_rows(5)))
    assert (*numbers_of(recipe).features.columns, numbers_of(recipe).target) == tuple(names)


@pytest.mark.parametrize("stem", ["x" * 200, "Größe", "---", ".hidden", "a[1] #2: 'q'"])
def test_odd_file_names_make_a_name_and_a_source(tmp_path: Path, stem: str) -> None:
    data = table(tmp_path / f"{stem}.csv", ["a", "y"], [row[:2] for row in number_rows(5)])
    _, recipe = drafted(data)
    assert numbers_of(recipe).source == (data.name,)
    # Planning looks the source up, as a name before as a pattern.
    assert assemble(recipe).step("prepare").stage.sources() == (data,)


def test_a_recipe_elsewhere_names_the_data_from_there(tmp_path: Path) -> None:
    data = table(tmp_path / "rows.csv", ["a", "y"], [row[:2] for row in number_rows(5)])
    (tmp_path / "recipes").mkdir()
    assert 'source: "../rows.csv"' in draft_recipe(data, None, tmp_path / "recipes")


@pytest.mark.parametrize(
    ("name", "header", "row", "target", "error", "what"),
    [
        ("d.csv", ["a", "y"], [1.5, "north"], None, UsageError, "'y' holds text"),
        ("d.csv", ["city", "y"], ["Berlin", 2.5], None, UsageError, "no column but the target holds numbers"),
        ("d.csv", ["y"], [2.5], None, DataError, "there is only one column"),
        ("d.csv", ["a", "y"], [1.5, 2.5], "z", UsageError, "there is no column 'z'"),
        ("d.xlsx", ["a", "y"], [1.5, 2.5], None, DataError, "no recipe can be drafted for a file of this kind"),
    ],
)
def test_data_that_no_task_fits_is_refused(
    tmp_path: Path, name: str, header: list[str], row: list[Any], target: str | None, error: type[Exception], what: str
) -> None:
    data = table(tmp_path / name, header, [row] * 5)
    with pytest.raises(error, match=what):
        draft_recipe(data, target, tmp_path)


def test_data_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        draft_recipe(tmp_path / "nowhere.csv", None, tmp_path)
