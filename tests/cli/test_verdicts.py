"""What a command ends in: the table, the JSON document, the JUnit report, GitHub's summary, the exit code."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from conftest import Lab

GATE = "eval[export].accuracy >= eval[train].accuracy - 0.5"


def test_the_table_has_a_row_for_every_model_and_a_line_for_every_gate(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml")
    assert result.code == 0
    assert result.err == "prepare  reuse\ntrain    reuse\nexport   reuse\neval     reuse\n"
    title, *lines = result.out.splitlines()
    assert title == "eval: 6 rows of the test split"
    headings = ["model", "accuracy (95% interval)", "vs first", "size", "parameters", "p50 batch 1", "parity"]
    position = -1
    for heading in headings:
        assert lines[0].find(heading) > position
        position = lines[0].find(heading)
    assert [line.split()[0] for line in lines[2:]] == ["train", "export", "passed", "passed"]
    assert f"  {GATE}  " in lines[-1]
    assert all(line == line.rstrip() and line.isprintable() for line in lines)


def test_a_pipe_gets_no_control_characters_even_where_colour_is_not_refused(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml", NO_COLOR="", TERM="xterm-256color")
    assert "\x1b" not in result.out + result.err


def test_columns_decide_the_width_and_nothing_is_cut_off(finished_lab: Lab) -> None:
    table = finished_lab("run whole.yaml --quiet", COLUMNS="60").out.split("passed")[0]
    assert max(len(line) for line in table.splitlines()) <= 60
    assert "…" not in table
    assert "parameters" in table


@pytest.mark.parametrize("columns", ["20", "40"])
def test_where_the_table_does_not_fit_every_figure_has_its_own_line(finished_lab: Lab, columns: str) -> None:
    lines = finished_lab("run whole.yaml --quiet", COLUMNS=columns).out.splitlines()
    assert lines[1] == "model: train"
    assert len([line for line in lines if line.startswith("parameters: ")]) == 2


def test_a_width_of_nothing_is_no_width(finished_lab: Lab) -> None:
    plain = finished_lab("run whole.yaml --quiet", COLUMNS="")
    assert finished_lab("run whole.yaml --quiet", COLUMNS="0").out == plain.out != ""


def test_every_evaluation_has_its_table(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml --quiet --set 'eval.two={split: train, latency: null}'")
    assert result.code == 0, result.err
    titles = [line for line in result.out.splitlines() if line.endswith(" split")]
    assert titles == ["eval: 6 rows of the test split", "eval.two: 48 rows of the train split"]


def test_quiet_tells_nothing(finished_lab: Lab) -> None:
    assert finished_lab("run whole.yaml --quiet").err == ""


def test_json_is_one_document_and_nothing_else(finished_lab: Lab) -> None:
    verdict = finished_lab.json("run whole.yaml --quiet")
    assert list(verdict) == ["mlctl", "command", "recipe", "exit_code", "passed", "steps", "gates", "failures"]
    assert (verdict["command"], verdict["recipe"], verdict["exit_code"], verdict["passed"]) == (
        "run",
        "whole.yaml",
        0,
        True,
    )
    assert [(step["step"], step["outcome"]) for step in verdict["steps"]] == [
        ("prepare", "reused"),
        ("train", "reused"),
        ("export", "reused"),
        ("eval", "reused"),
    ]
    own, wanted = verdict["gates"]
    assert own["text"] == "export.parity <= 0.0001"
    assert (wanted["text"], wanted["outcome"], wanted["difference"]["method"]) == (GATE, "passed", "mcnemar-tango")
    assert verdict["failures"] == []


def test_a_failure_is_a_json_document_too(lab: Lab) -> None:
    result = lab("run tiny.yaml --json train.epoch=3")
    assert result.code == 2
    assert result.err == ""
    (failure,) = json.loads(result.out)["failures"]
    assert (failure["kind"], failure["exit_code"]) == ("RecipeError", 2)
    assert failure["problems"][0]["path"] == "train.epoch"


@pytest.mark.parametrize(
    ("gates", "code"),
    [
        ("[]", 0),
        ('["eval[train].accuracy > 1"]', 20),
        ('["export.agreement > 1"]', 21),
        ('["eval[train].p50_batch_1 < 0"]', 22),
        ('["eval[export].bytes < 1"]', 23),
        ('["eval[export].bytes < 1", "eval[train].accuracy > 1"]', 23),
        ('[{that: "eval[export].accuracy >= eval[train].accuracy - 0.001", confidence: 0.999}]', 25),
        (
            '[{that: "eval[export].accuracy >= eval[train].accuracy - 0.001", confidence: 0.999}, "export.parity < 0"]',
            21,
        ),
        ('["eval[train].accuracy / (eval[export].bytes - eval[export].bytes) > 0"]', 20),
    ],
)
def test_a_gate_has_the_exit_code_of_its_first_figures_kind(finished_lab: Lab, gates: str, code: int) -> None:
    result = finished_lab(f"run whole.yaml --set 'gates={gates}'")
    assert result.code == code, result.out
    assert "Traceback" not in result.err


def test_too_few_samples_for_a_bootstrap_decide_nothing(finished_lab: Lab) -> None:
    gate = '[{that: "eval[train].accuracy >= eval[train].accuracy - 0.01 * eval[export].accuracy", confidence: 0.999}]'
    verdict = json.loads(finished_lab(f"run whole.yaml --json --set 'gates={gate}'").out)
    found = verdict["gates"][-1]
    assert (found["outcome"], found["exit_code"], found["difference"]) == ("inconclusive", 25, None)


def test_a_stage_command_judges_only_the_gates_whose_figures_it_measured(finished_lab: Lab) -> None:
    result = finished_lab("train whole.yaml --json")
    assert result.code == 0
    assert [gate["outcome"] for gate in json.loads(result.out)["gates"]] == ["not measured"]


def test_junit_has_a_case_for_every_gate(finished_lab: Lab) -> None:
    result = finished_lab(f"""run whole.yaml --junit gates.xml --set 'gates=["{GATE}", "eval[train].bytes < 1"]'""")
    assert result.code == 23
    suite = ElementTree.parse(finished_lab.folder / "gates.xml").getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "0")
    failed = [case.get("name") for case in suite if case.find("failure") is not None]
    assert failed == ["eval[train].bytes < 1"]


def test_the_verdict_is_one_document_also_where_a_report_cannot_be_written(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml --json --quiet --junit nowhere/gates.xml")
    assert json.loads(result.out)["exit_code"] == 5
    summary = finished_lab("run whole.yaml --quiet", GITHUB_ACTIONS="true", GITHUB_STEP_SUMMARY="nowhere/summary.md")
    assert summary.code == 0
    assert "the step summary cannot be written" in summary.err


def test_a_gate_that_no_interval_can_decide_is_refused_before_anything_runs(lab: Lab) -> None:
    gates = '[{that: "train.validation_loss <= 1", confidence: 0.9}, {that: "train.epochs == 2", confidence: 0.9}]'
    result = lab(f"plan tiny.yaml --set 'gates={gates}'")
    assert result.code == 2
    assert "train.validation_loss has no samples behind it" in result.err
    assert "no interval can decide == or !=" in result.err


def test_an_encoding_without_arrows_gets_question_marks(finished_lab: Lab) -> None:
    result = finished_lab("plan tiny.yaml train.epochs=3", PYTHONIOENCODING="ascii")
    assert (result.code, result.out.splitlines()[1]) == (0, "train    run    train.epochs: 2 ? 3")


def test_junit_that_cannot_be_written_is_the_machines_fault(finished_lab: Lab) -> None:
    result = finished_lab("run whole.yaml --junit nowhere/gates.xml --quiet")
    assert result.code == 5
    assert "nowhere/gates.xml: the report cannot be written" in result.err


def test_github_gets_a_summary_and_annotations(finished_lab: Lab, tmp_path: Path) -> None:
    summary = tmp_path / "summary.md"
    result = finished_lab(
        """run whole.yaml --quiet --set 'gates=["eval[train].bytes < 1"]'""",
        GITHUB_ACTIONS="true",
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert result.code == 23
    assert result.err.startswith("::error title=gate failed::eval[train].bytes < 1: ")
    text = summary.read_text()
    assert text.startswith(
        "## mlctl run: failed with exit code 23\n\neval: 6 rows of the test split\n\n| model | accuracy"
    )
    assert "| `eval[train].bytes < 1` | failed |" in text


def test_a_failed_step_is_said_once_with_what_to_do_next(lab: Lab) -> None:
    rows = lab.folder / "rows.csv"
    rows.write_text(rows.read_text() + "1,2,three\n")
    result = lab("run tiny.yaml --quiet")
    assert result.code == 3
    assert "rows.csv:62" in result.err
    assert result.err.count("three") == 1
    assert "  next: " in result.err
    assert "Traceback" not in result.err


def test_a_training_that_stops_early_says_so(lab: Lab) -> None:
    settings = "train.epochs=60 train.early_stopping.patience=1 train.early_stopping.min_delta=10"
    result = lab(f"train tiny.yaml {settings} --threads 1")
    assert result.code == 0, result.err
    assert "train    stopped early after epoch 2 of 60\n" in result.err
