"""What an evaluation leaves behind, and what it refuses to measure."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TINY, WHOLE, Lab
from safetensors.numpy import load_file
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score

from mlctl.metrics.evaluation_files import EvaluationFiles, EvaluationIndex


@pytest.fixture(scope="module")
def verdict(finished_labs: Lab) -> Any:
    """The verdict of the finished `whole.yaml`."""
    return finished_labs.json("run whole.yaml")


def figures(verdict: Any, step: str, model: str | None = None) -> dict[str, Any]:
    """A step's figures by name, those of a model where it measures several."""
    (result,) = (each for each in verdict["steps"] if each["step"] == step)
    return {figure["figure"]: figure for figure in result["figures"] if figure["model"] == model}


@pytest.mark.parametrize("model", ["train", "export"])
def test_figures_come_from_the_answers_that_are_kept(finished_labs: Lab, verdict: Any, model: str) -> None:
    folder = finished_labs.artifact("whole", "eval")
    answers, targets = np.load(folder / model / "answers.npy"), np.load(folder / "targets.npy")
    prepared = finished_labs.artifact("whole", "prepare")
    assert np.array_equal(targets, np.load(prepared / "test" / "target.npy"))
    assert answers.shape == (len(targets), 2)
    found, chosen = figures(verdict, "eval", model), answers.argmax(axis=1)
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(targets, chosen))
    assert found["f1"]["value"] == pytest.approx(f1_score(targets, chosen, average="macro", zero_division=0))
    assert [name for name, figure in found.items() if figure["main"]] == ["accuracy"]
    report = json.loads((folder / model / "report.json").read_text(encoding="utf-8"))
    assert report == {
        "labels": ["left", "right"],
        "confusion": confusion_matrix(targets, chosen, labels=[0, 1]).tolist(),
    }


def test_every_model_but_the_first_has_its_difference_to_the_first(verdict: Any) -> None:
    assert "difference" not in figures(verdict, "eval", "train")
    difference = figures(verdict, "eval", "export")["difference"]
    accuracies = [figures(verdict, "eval", model)["accuracy"]["value"] for model in ("export", "train")]
    assert difference["value"] == pytest.approx(accuracies[0] - accuracies[1])
    assert difference["low"] < difference["value"] < difference["high"]


def test_latencies_are_those_of_the_timed_calls(finished_labs: Lab, verdict: Any) -> None:
    files = EvaluationFiles.open(finished_labs.artifact("whole", "eval"))
    assert files.index.batches == (1,)
    for model in ("train", "export"):
        seconds = files.seconds(model, 1)
        assert seconds.shape == (10,)
        found = figures(verdict, "eval", model)
        for percentile in (50, 95, 99):
            expected = float(np.percentile(seconds, percentile)) * 1000
            assert found[f"p{percentile}_batch_1"]["value"] == pytest.approx(expected)


def test_sizes_are_those_of_the_files(finished_labs: Lab, verdict: Any) -> None:
    weights = finished_labs.artifact("whole", "train") / "model.safetensors"
    graph = finished_labs.artifact("whole", "export") / "model.onnx"
    assert figures(verdict, "eval", "train")["bytes"]["value"] == weights.stat().st_size
    assert figures(verdict, "eval", "export")["bytes"]["value"] == graph.stat().st_size
    # Running means, variances and counts are no parameters: nothing learns them.
    learnt = [each.size for name, each in load_file(weights).items() if "running" not in name and "num_" not in name]
    assert figures(verdict, "eval", "train")["parameters"]["value"] == sum(learnt)
    assert figures(verdict, "train")["parameters"]["value"] == sum(learnt)


def test_gates_carry_the_paired_difference(verdict: Any) -> None:
    (gate,) = (gate for gate in verdict["gates"] if gate["text"].startswith("eval[export]"))
    assert gate["outcome"] == "passed"
    assert gate["difference"]["method"] == "mcnemar-tango"
    assert gate["difference"]["samples"] == 6
    assert gate["difference"]["low"] <= gate["left"] - gate["right"] <= gate["difference"]["high"]


def test_what_is_saved_is_what_is_opened(tmp_path: Path) -> None:
    index = EvaluationIndex("regression", "test", ("train", "quantize.half"), ("rmse",), (1, 32))
    index.save(tmp_path)
    files = EvaluationFiles.open(tmp_path)
    assert files.index == index
    seconds = np.random.default_rng(0).random((2, 2, 5))
    files.save_seconds(seconds)
    files.save_targets(np.arange(3.0))
    assert np.array_equal(files.seconds("quantize.half", 1), seconds[1, 0])
    assert np.array_equal(files.targets, np.arange(3.0))


def test_a_model_is_not_measured_on_columns_that_it_did_not_learn(finished_lab: Lab) -> None:
    prepare = TINY.split("prepare:\n")[1].split("train:")[0]
    two = TINY.replace("train:\n", f"prepare.swapped:\n{prepare.replace('[a, b]', '[b, a]')}train:\n  data: prepare\n")
    (finished_lab.folder / "two.yaml").write_text(two + "eval: {latency: null}\n")
    result = finished_lab("run two.yaml")
    assert result.code == 4, result.err
    assert "eval: train learnt other inputs than the data holds that it is to be measured on" in result.err
    assert "eval.data" in result.err
    assert finished_lab("run two.yaml eval.data=prepare").code == 0


def test_a_model_is_not_measured_on_classes_that_it_did_not_learn(finished_lab: Lab) -> None:
    text = (finished_lab.folder / "images.csv").read_text()
    (finished_lab.folder / "other.csv").write_text(text.replace("left", "up"))
    prepare = WHOLE.split("prepare:\n")[1].split("train:")[0].replace("images.csv", "other.csv")
    recipe = WHOLE.split("export:")[0] + f"prepare.other:\n{prepare}eval: {{latency: null}}\n"
    (finished_lab.folder / "whole.yaml").write_text(recipe)
    result = finished_lab("run whole.yaml")
    assert result.code == 4, result.err
    assert "eval: train learnt other classes than the data holds" in result.err
