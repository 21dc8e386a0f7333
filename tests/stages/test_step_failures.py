"""How a life ends early: bad rows, a training that diverges, a graph that answers otherwise."""

import json

from conftest import Lab

DIVERGING = "'train.optimizer={name: sgd, lr: 1.0e+30}'"


def test_a_bad_row_is_named_with_its_file_and_line(lab: Lab) -> None:
    rows = lab.folder / "rows.csv"
    rows.write_text(rows.read_text() + "1,2,oops\n1,nan,3\n")
    result = lab("prepare tiny.yaml")
    assert result.code == 3
    assert "rows.csv:62: column 'y' holds 'oops', not a number" in result.err
    assert "rows.csv:63: column 'b'" in result.err
    assert "on_bad: skip" in result.err
    verdict = lab.json("prepare tiny.yaml prepare.on_bad=skip")
    (step,) = verdict["steps"]
    assert {figure["figure"]: figure["value"] for figure in step["figures"]} == {
        "train_rows": 48, "validation_rows": 6, "test_rows": 6, "bad_rows": 2, "duplicate_rows": 0,
    }  # fmt: skip


def test_a_training_that_diverges_names_the_step_and_the_learning_rate(finished_lab: Lab) -> None:
    result = finished_lab(f"run tiny.yaml {DIVERGING}")
    assert result.code == 4
    assert "train: the loss is not a finite number at step " in result.err
    assert "at a learning rate of 1e+30" in result.err
    assert "next: lower the learning rate" in result.err
    assert "Traceback" not in result.err
    # Nothing half-made is left, and what was there still is.
    assert finished_lab("verify tiny.yaml").code == 0
    assert finished_lab("run tiny.yaml").code == 0


def test_a_graph_beyond_its_tolerance_fails_the_command_and_stops_the_life(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml export.tolerance=1e-12 --json")
    assert result.code == 21, result.err
    verdict = json.loads(result.out)
    assert verdict["exit_code"] == 21
    assert [(step["step"], step["outcome"]) for step in verdict["steps"]] == [
        ("prepare", "reused"), ("train", "reused"), ("export", "reused"), ("eval", "skipped"),
    ]  # fmt: skip
    parity, ours = verdict["gates"]
    assert (parity["text"], parity["outcome"]) == ("export.parity <= 1e-12", "failed")
    assert parity["left"] > parity["right"] == 1e-12
    assert ours["outcome"] == "not measured"
    # The graph itself is as good as before: only the demand was another.
    assert finished_lab("run whole.yaml").code == 0
