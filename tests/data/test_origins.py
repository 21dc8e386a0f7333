"""Which files a source names, when it is planned and when it is read."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from web_server import WebFile, WebServer, served

from mlctl.data.opening import opened_origins
from mlctl.data.origin import Origin
from mlctl.data.origins import source_files
from mlctl.data.sources import source_of
from mlctl.digests import file_digest
from mlctl.errors import DataError, UsageError
from mlctl.events import Event, Progress, silent
from mlctl.recipe.prepare import DataSettings, RowData


def touch(base: Path, *names: str) -> None:
    for name in names:
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        (base / name).write_bytes(b"")


def packed(path: Path, *names: str) -> None:
    """A zip archive whose members hold their own names."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)


def planned(base: Path, *source: str) -> list[str]:
    return [path.relative_to(base).as_posix() for path in source_files(RowData(task="any", source=source), base)]


def opened(base: Path, settings: DataSettings) -> tuple[Origin, ...]:
    (base / ".staging").mkdir()
    return opened_origins(settings, base, base / ".staging", silent)


def rows_of(base: Path, *source: str) -> list[tuple[str, str | None]]:
    """Name within the source's folder, and label, of every file that is read as rows."""
    _, found = source_of(opened(base, RowData(task="any", source=source)))
    return [(origin.name.removeprefix(f"{base}/"), origin.label) for origin in found]


def test_globs_and_paths_are_expanded_sorted_and_each_file_named_once(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.csv", "b/1.csv", "a.tsv", "b/.hidden.csv", "b/notes.md")
    assert planned(tmp_path, "b/*.csv", "a.tsv", "b/1.csv") == ["a.tsv", "b/1.csv", "b/2.csv"]
    found = opened(tmp_path, RowData(task="any", source=("b/*.csv", "a.tsv", "b/1.csv")))
    assert [origin.name for origin in found] == [str(tmp_path / name) for name in ("a.tsv", "b/1.csv", "b/2.csv")]


def test_an_absolute_glob_is_not_read_beside_the_recipe(tmp_path: Path) -> None:
    touch(tmp_path, "data/1.csv")
    found = source_files(RowData(task="any", source=(str(tmp_path / "data" / "*.csv"),)), tmp_path / "elsewhere")
    assert found == (tmp_path / "data" / "1.csv",)


@pytest.mark.parametrize("name", ["run[1].csv", "a!b.csv", "a#b.csv", "a.zip!b.csv", "http:x.csv"])
def test_a_path_that_exists_is_that_file_whatever_else_its_name_could_mean(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "run1.csv")
    assert planned(tmp_path, name) == [name]


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
    assert planned(tmp_path, "p") == ["p/ant/deep/2.JPG", "p/cat/1.png"]
    assert rows_of(tmp_path, "p") == [("p/ant/deep/2.JPG", "ant"), ("p/cat/1.png", "cat")]


def test_an_archive_gives_the_images_that_a_folder_would(tmp_path: Path) -> None:
    packed(tmp_path / "p.zip", "cat/1.png", "ant/deep/2.JPG", "cat/readme.txt", "cat/.3.png", ".x/4.png", "labels.md")
    assert planned(tmp_path, "p.zip") == ["p.zip"]
    assert rows_of(tmp_path, "p.zip") == [("p.zip!ant/deep/2.JPG", "ant"), ("p.zip!cat/1.png", "cat")]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["photos/cat/1.png", "photos/dog/1.png", "photos/README.md", "LICENSE"], ["cat", "dog"]),
        (["a/b/cat/1.png", "a/b/dog/deep/1.png"], ["cat", "dog"]),
        (["cat/1.png", "cat/2.png"], ["cat", "cat"]),
    ],
)
def test_folders_around_all_images_of_an_archive_are_no_classes(
    tmp_path: Path, names: list[str], labels: list[str]
) -> None:
    packed(tmp_path / "p.zip", *names)
    assert [label for _, label in rows_of(tmp_path, "p.zip")] == labels


def test_images_that_a_glob_names_are_of_the_folder_that_they_lie_in(tmp_path: Path) -> None:
    touch(tmp_path, "p/cat/small/1.png")
    packed(tmp_path / "q.zip", "dog/large/1.png", "dog/large/2.gif")
    assert rows_of(tmp_path, "p/**/*.png", "q.zip!**/*.png") == [
        ("p/cat/small/1.png", "small"),
        ("q.zip!dog/large/1.png", "large"),
    ]


def test_a_text_takes_files_of_any_suffix_and_everything_in_a_folder_or_an_archive(tmp_path: Path) -> None:
    touch(tmp_path, "text8", "books/1", "books/more/2.md", "books/.3")
    packed(tmp_path / "a.zip", "4", "b/5.txt")
    settings = DataSettings(task="any", source=("text8", "books", "a.zip"))
    assert [path.name for path in source_files(settings, tmp_path)] == ["a.zip", "1", "2.md", "text8"]
    found = opened(tmp_path, settings)
    assert [origin.name.removeprefix(f"{tmp_path}/") for origin in found] == [
        "a.zip!4",
        "a.zip!b/5.txt",
        "books/1",
        "books/more/2.md",
        "text8",
    ]
    assert [found[place].path.read_text() for place in (0, 1)] == ["4", "b/5.txt"]


def test_splits_by_files_are_read_split_by_split(tmp_path: Path) -> None:
    touch(tmp_path, "z.csv", "a.csv", "m.csv")
    files = {"train": "z.csv", "validation": "m.csv", "test": "a.csv"}
    found = opened(tmp_path, RowData.model_validate({"task": "any", "split": {"files": files}}))
    assert [(origin.path.name, origin.split) for origin in found] == [
        ("z.csv", "train"),
        ("m.csv", "validation"),
        ("a.csv", "test"),
    ]


def test_splits_may_be_members_of_one_archive_which_is_opened_once(tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", "train/1.csv", "train/2.csv", "test/1.csv", "notes.md")
    settings = RowData.model_validate(
        {"task": "any", "split": {"files": {"train": "a.zip!train/*", "test": "./a.zip!test/*.csv"}}}
    )
    assert source_files(settings, tmp_path) == (tmp_path / "a.zip",)
    events: list[Event] = []
    (tmp_path / "staging").mkdir()
    found = opened_origins(settings, tmp_path, tmp_path / "staging", events.append)
    assert [(origin.name, origin.split) for origin in found] == [
        (f"{tmp_path}/a.zip!train/1.csv", "train"),
        (f"{tmp_path}/a.zip!train/2.csv", "train"),
        (f"{tmp_path}/a.zip!test/1.csv", "test"),
    ]
    assert sorted(path.name for path in (tmp_path / "staging").rglob("*") if path.is_file()) == [
        "1.csv",
        "1.csv",
        "2.csv",
    ]
    size = (tmp_path / "a.zip").stat().st_size
    assert {(event.what, event.total) for event in events if isinstance(event, Progress)} == {("unpack", size)}


@pytest.mark.parametrize(
    ("train", "test", "shared"), [("*.csv", "b.csv", "b.csv"), ("a.zip!*.csv", "a.zip!2.csv", "a.zip!2.csv")]
)
def test_a_file_cannot_be_learnt_from_and_measure(tmp_path: Path, train: str, test: str, shared: str) -> None:
    touch(tmp_path, "a.csv", "b.csv")
    packed(tmp_path / "a.zip", "1.csv", "2.csv")
    settings = RowData.model_validate({"task": "any", "split": {"files": {"train": train, "test": test}}})
    with pytest.raises(DataError, match="two splits, train and test") as caught:
        opened(tmp_path, settings)
    assert caught.value.where == str(tmp_path / shared)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("missing.csv", "no file matches"),
        ("*.csv.gz", "no file matches"),
        ("missing.zip!*.csv", "no file matches"),
        ("nothing", "holds no files"),
        ("empty", "no class folders"),
        ("flat", "outside the class folders"),
        ("model.onnx", "'.onnx' cannot be read"),
        ("none", "'without a suffix' cannot be read"),
    ],
)
def test_a_source_that_gives_nothing_to_read_is_named_by_the_plan(tmp_path: Path, source: str, what: str) -> None:
    touch(tmp_path, "flat/1.png", "flat/cat/2.png", "model.onnx", "empty/a.csv", "none")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=what) as caught:
        source_files(RowData(task="any", source=(source,)), tmp_path)
    assert source.split("!")[0] in str(caught.value.where)


def test_an_archive_that_gives_nothing_to_read_is_named_when_it_is_opened(tmp_path: Path) -> None:
    packed(tmp_path / "a.zip", "notes.md", "data/1.csv")
    with pytest.raises(DataError, match="no class folders with images") as caught:
        rows_of(tmp_path, "a.zip")
    assert caught.value.where == str(tmp_path / "a.zip")
    assert caught.value.next.endswith(f"{tmp_path}/a.zip!**/*.csv")


def test_kinds_do_not_mix(tmp_path: Path) -> None:
    touch(tmp_path, "p/cat/1.png", "a.csv")
    with pytest.raises(DataError, match="tables in delimited text and files of images cannot be one source") as caught:
        source_files(RowData(task="any", source=("a.csv", "p")), tmp_path)
    assert caught.value.where == str(tmp_path / "p/cat/1.png")
    touch(tmp_path, "p/train.bin")
    with pytest.raises(DataError, match="CIFAR files and files of images cannot be one source"):
        source_files(RowData(task="any", source=("p",)), tmp_path)


def test_a_glob_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="this is no glob") as caught:
        source_files(RowData(task="any", source=("a**/*.csv",)), tmp_path)
    assert caught.value.where == "a**/*.csv"


def test_an_address_may_be_longer_than_any_files_name(tmp_path: Path) -> None:
    assert planned(tmp_path, f"https://host/a.csv?{'x' * 999}#sha256={'0' * 64}") == []


def test_a_digest_pins_a_local_file_too(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    digest = file_digest(tmp_path / "a.csv")
    (origin,) = opened(tmp_path, RowData(task="any", source=(f"a.csv#sha256={digest.upper()}",)))
    assert origin == Origin(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("a\n2\n")
    with pytest.raises(DataError, match="sha256") as caught:
        opened_origins(RowData(task="any", source=(f"a.csv#sha256={digest}",)), tmp_path, tmp_path / ".staging", silent)
    assert caught.value.where == str(tmp_path / "a.csv")


def test_what_is_fetched_is_no_file_of_the_plan(tmp_path: Path) -> None:
    touch(tmp_path, "a.csv")
    remote = [f"https://host/b.csv#sha256={'0' * 64}", f"hf://datasets/owner/name@{'1' * 40}/c.zip!*.csv"]
    assert planned(tmp_path, *remote, "a.csv") == ["a.csv"]


def test_an_archive_of_a_server_is_fetched_and_opened_like_one_of_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    packed(tmp_path / "a.zip", "cat/1.png", "dog/2.png", "rows/1.csv")
    content = (tmp_path / "a.zip").read_bytes()
    with served(WebServer(files={"/get": WebFile(content), "/a.zip": WebFile(content)})) as server:
        pin = f"#sha256={file_digest(tmp_path / 'a.zip')}"
        # No name of the address says that it is an archive; the members do.
        members = rows_of(tmp_path, f"{server.url('/get')}?name=a!**/*.csv{pin}")
        assert members == [(f"{server.url('/get')}?name=a!rows/1.csv", None)]
        (tmp_path / ".staging").rename(tmp_path / ".before")
        whole = rows_of(tmp_path, f"{server.url('/a.zip')}{pin}")
        assert whole == [(f"{server.url('/a.zip')}!{name}", name[:3]) for name in ("cat/1.png", "dog/2.png")]


def test_naming_the_files_loads_nothing_heavy() -> None:
    code = "import sys, mlctl.data.origins; print({'numpy', 'pyarrow', 'PIL', 'torch'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
