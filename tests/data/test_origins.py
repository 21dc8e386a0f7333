"""Which files a source names."""

import subprocess
import sys
from pathlib import Path

import pytest

from mlctl.data.origins import origins, source_files
from mlctl.errors import DataError, UsageError
from mlctl.recipe.prepare import DataSettings


def touch(base: Path, *names: str) -> None:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"")


def named(base: Path, *source: str) -> list[str]:
    return [path.relative_to(base).as_posix() for path in source_files(DataSettings(task="any", source=source), base)]


def test_globs_and_paths_are_expanded_sorted_and_each_file_named_once(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.csv", "b/1.csv", "a.tsv", "b/.hidden.csv", "b/notes.md")
    assert named(tmp_path, "b/*.csv", "a.tsv", "b/1.csv") == ["a.tsv", "b/1.csv", "b/2.csv"]


def test_an_absolute_glob_is_not_read_beside_the_recipe(tmp_path: Path) -> None:
    touch(tmp_path, "data/1.csv")
    found = source_files(DataSettings(task="any", source=(str(tmp_path / "data" / "*.csv"),)), tmp_path / "elsewhere")
    assert found == (tmp_path / "data" / "1.csv",)


def test_a_path_that_exists_is_no_glob_even_with_brackets_in_it(tmp_path: Path) -> None:
    touch(tmp_path, "run[1].csv", "run1.csv")
    assert named(tmp_path, "run[1].csv") == ["run[1].csv"]


def test_a_folder_gives_the_images_of_its_class_folders_with_the_first_level_as_label(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "p/cat/1.png",
        "p/ant/deep/2.JPG",
        "p/cat/readme.txt",
        "p/cat/.3.png",
        "p/.checkpoints/4.png",
        "p/labels.md",
    )
    found = origins(DataSettings(task="any", source=("p",)), tmp_path)
    assert [(origin.path.name, origin.label) for origin in found] == [("2.JPG", "ant"), ("1.png", "cat")]


def test_splits_by_files_are_read_split_by_split(tmp_path: Path) -> None:
    touch(tmp_path, "z.csv", "a.csv", "m.csv")
    files = {"train": "z.csv", "validation": "m.csv", "test": "a.csv"}
    found = origins(DataSettings.model_validate({"task": "any", "split": {"files": files}}), tmp_path)
    assert [(origin.path.name, origin.split) for origin in found] == [
        ("z.csv", "train"),
        ("m.csv", "validation"),
        ("a.csv", "test"),
    ]


def test_a_file_cannot_be_learnt_from_and_measure(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv", "b.csv")
    settings = DataSettings.model_validate({"task": "any", "split": {"files": {"train": "*.csv", "test": "b.csv"}}})
    with pytest.raises(DataError, match="two splits, train and test") as caught:
        origins(settings, tmp_path)
    assert caught.value.where == str(tmp_path / "b.csv")


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("missing.csv", "no file matches"),
        ("*.csv.gz", "no file matches"),
        ("empty", "no class folders"),
        ("flat", "outside the class folders"),
        ("model.parquet", "'.parquet' cannot be read"),
    ],
)
def test_a_source_that_gives_nothing_to_read_is_named(tmp_path: Path, source: str, what: str) -> None:
    touch(tmp_path, "flat/1.png", "flat/cat/2.png", "model.parquet", "empty/a.csv")
    with pytest.raises(DataError, match=what) as caught:
        source_files(DataSettings(task="any", source=(source,)), tmp_path)
    assert source in str(caught.value.where)


def test_tables_and_images_do_not_mix(tmp_path: Path) -> None:
    touch(tmp_path, "p/cat/1.png", "a.csv")
    with pytest.raises(DataError, match="cannot be one source"):
        source_files(DataSettings(task="any", source=("a.csv", "p")), tmp_path)


@pytest.mark.parametrize("source", ["https://example.org/a.csv", "hf://datasets/a/b@1/c.csv"])
def test_sources_over_the_network_say_what_to_do_instead(source: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not built yet") as caught:
        source_files(DataSettings(task="any", source=(source,)), tmp_path)
    assert caught.value.next == "download the file and name its path"


def test_naming_the_files_loads_nothing_heavy() -> None:
    code = "import sys, mlctl.data.origins; print({'numpy', 'pyarrow', 'PIL', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
