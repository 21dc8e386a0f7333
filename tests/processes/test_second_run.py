"""A run that has nothing to do does nothing, and says so."""

import pytest
from conftest import HEAVY, Lab


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ("tiny", "prepare  reuse\ntrain    reuse\n"),
        ("whole", "prepare  reuse\ntrain    reuse\nexport   reuse\neval     reuse\n"),
    ],
)
def test_a_second_run_reuses_everything_and_says_only_that(finished_lab: Lab, recipe: str, told: str) -> None:
    before = finished_lab.bytes_of()
    result = finished_lab(f"run {recipe}.yaml")
    assert (result.code, result.err) == (0, told)
    assert finished_lab.bytes_of() == before


def test_a_second_run_measures_nothing_and_shows_the_same(finished_lab: Lab) -> None:
    first, second = (finished_lab.json("run whole.yaml") for _ in range(2))
    assert first == second
    assert {step["outcome"] for step in first["steps"]} == {"reused"}
    assert [gate["outcome"] for gate in first["gates"] if "accuracy" in gate["text"]] == ["passed"]


@pytest.mark.parametrize("recipe", ["tiny", "whole"])
def test_a_second_run_neither_computes_nor_reads_the_data(finished_labs: Lab, recipe: str) -> None:
    """The data file has settled by now: the first of these runs may read it to learn its digest, the second may not."""
    finished_labs(f"run {recipe}.yaml")
    result = finished_labs.watched(f"run {recipe}.yaml")
    assert result.code == 0
    assert result.modules & HEAVY == set()
    assert any(name.endswith(f"{recipe}.yaml") for name in result.opened)
    assert [name for name in result.opened if name.endswith((".csv", ".npy", ".safetensors", ".onnx"))] == []


def test_a_data_file_that_was_only_touched_changes_nothing(finished_lab: Lab) -> None:
    (finished_lab.folder / "rows.csv").touch()
    assert finished_lab("run tiny.yaml").err == "prepare  reuse\ntrain    reuse\n"


def test_a_changed_row_is_told_and_everything_below_is_made_again(finished_lab: Lab) -> None:
    with (finished_lab.folder / "rows.csv").open("a") as stream:
        stream.write("1.0,1.0,1.0\n")
    assert finished_lab("plan tiny.yaml").out == (
        "prepare  run    rows.csv has other content\ntrain    run    its input data is another\n"
    )


def test_a_changed_key_is_told_with_both_values(finished_lab: Lab) -> None:
    assert finished_lab("plan tiny.yaml train.epochs=3").out == (
        "prepare  reuse\ntrain    run    train.epochs: 2 → 3\n"
    )


def test_what_does_not_change_bytes_changes_nothing(finished_lab: Lab) -> None:
    result = finished_lab("run tiny.yaml train.checkpoint_seconds=1 --threads 2 --device cpu")
    assert (result.code, result.err) == (0, "prepare  reuse\ntrain    reuse\n")


def test_a_run_leaves_nothing_outside_the_store(finished_lab: Lab) -> None:
    ours = {"rows.csv", "images.csv", "tiny.yaml", "long.yaml", "whole.yaml", ".mlctl"}
    assert {path.name for path in finished_lab.folder.iterdir()} == ours
    assert sorted(path.name for path in (finished_lab.store / "work").iterdir()) == []


def test_a_finished_run_needs_no_store_that_can_be_written(finished_lab: Lab) -> None:
    """Nothing in it is touched: names, sizes and times are as before."""
    finished_lab("run tiny.yaml")
    before = {path: path.lstat().st_mtime_ns for path in finished_lab.store.rglob("*")}
    assert finished_lab("run tiny.yaml").code == 0
    after = {path: path.lstat().st_mtime_ns for path in finished_lab.store.rglob("*") if path.name != "sources.json"}
    assert {path: time for path, time in before.items() if path.name != "sources.json"} == after
