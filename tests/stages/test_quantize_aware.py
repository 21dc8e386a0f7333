"""quantize with `method: qat` through the real command: what it leaves, what it says, and how it fails."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from conftest import COMMAND, TINY, Lab, finished, new_lab
from onnx import numpy_helper
from quantized_steps import LINE, artifact, figures, operators, report, with_steps

from mlctl.engine.manifest import Manifest

OWN_FIGURES = {
    "static_drop",
    "parity",
    "parity_agreement",
    "max_absolute",
    "epochs",
    "kept_epoch",
    "samples_per_second",
}
DYING = "from mlctl.training.dying import die; die(checkpoint_after=3, killed_after=5); "
"""A training of five steps or more ends after the fifth, and can go on from the third."""


def files(lab: Lab, step: str = "quantize") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in artifact(lab, step).iterdir() if path.name != "manifest.json"}


def stored(folder: Path) -> dict[str, Any]:
    return {each.name: numpy_helper.to_array(each) for each in onnx.load(folder / "model.onnx").graph.initializer}


@pytest.mark.parametrize("base", ["whole", "tiny"])
def test_it_leaves_the_static_graph_with_other_weights(finished_lab: Lab, base: str) -> None:
    lab = with_steps(
        finished_lab,
        "quantize.static: {method: static, from: export}",
        "quantize.aware: {method: qat, from: export, epochs: 4, batch_size: 16, optimizer: {name: adamw, lr: 0.01}}",
        base=base,
    )
    verdict = lab.json(LINE)
    static, aware = artifact(lab, "quantize.static"), artifact(lab, "quantize.aware")
    assert {path.name for path in aware.iterdir()} == {
        "model.onnx",
        "quantization.json",
        "metrics.jsonl",
        "manifest.json",
    }
    assert operators(aware) == operators(static)
    before, after = stored(static), stored(aware)
    assert {name: (each.dtype, each.shape) for name, each in before.items()} == {
        name: (each.dtype, each.shape) for name, each in after.items()
    }
    moved = {name for name in before if not (before[name] == after[name]).all()}
    weights = {name for name in before if name.endswith("_quantized")}
    assert moved >= {name for name in weights if name.startswith("network.")}
    # Ranges of activations are those of calibration.
    assert {name.removesuffix("_scale").removesuffix("_zero_point") for name in moved - weights} <= {
        name.removesuffix("_quantized") for name in weights
    } | weights
    found, beside = figures(verdict, "quantize.aware"), figures(verdict, "quantize.static")
    assert found.keys() == beside.keys() | OWN_FIGURES
    assert found["static_drop"] == pytest.approx(beside["drop"])
    assert found["parity"] <= 5e-3
    assert found["parity_agreement"] == 1
    assert (found["epochs"], found["bytes"]) == (4, (aware / "model.onnx").stat().st_size)
    history = [json.loads(line) for line in (aware / "metrics.jsonl").read_text().splitlines()]
    assert [each["epoch"] for each in history] == [1, 2, 3, 4]
    told = report(lab, "quantize.aware")
    assert (told["method"], told["is_met"], told["kept"]) == ("qat", True, [])
    assert told["drop"] == pytest.approx(found["drop"])
    choices = Manifest.load(aware).made.choices
    assert choices["method"] == "qat"
    assert choices["scheme"] == Manifest.load(static).made.choices["scheme"]
    properties = {each.key: each.value for each in onnx.load(aware / "model.onnx").metadata_props}
    assert json.loads(properties["mlctl.quantization"])["method"] == "qat"
    assert "quantize.aware.parity <= 0.01" in [gate["text"] for gate in verdict["gates"]]


def test_killed_in_its_training_it_goes_on_to_the_same_bytes(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: qat, epochs: 3, batch_size: 16, ema: 0.5, augment: {shift: 1}}")
    killed = finished(lab.start(LINE, code=DYING + COMMAND))
    assert killed.code == -9, killed.err
    assert lab("plan quantized.yaml").out.splitlines()[-1] == "quantize  resume goes on where it stopped"
    assert lab.json(LINE)["steps"][-1]["outcome"] == "resumed"
    resumed = files(lab)
    assert lab.json(f"{LINE} --force quantize")["steps"][-1]["outcome"] == "ran"
    assert files(lab) == resumed
    assert list((lab.store / "work").iterdir()) == []


def test_a_second_run_reuses_and_a_setting_of_the_training_makes_it_anew(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: qat, epochs: 1}")
    assert lab(LINE).code == 0
    assert lab("plan quantized.yaml").out.splitlines()[-1] == "quantize  reuse"
    # What is asked of the result, or only written beside it, changes no byte.
    assert lab("plan quantized.yaml quantize.tolerance=0.5").out.splitlines()[-1] == "quantize  reuse"
    assert lab("plan quantized.yaml quantize.checkpoint_seconds=5").out.splitlines()[-1] == "quantize  reuse"
    assert "quantize.epochs: 1 → 2" in lab("plan quantized.yaml quantize.epochs=2").out


def test_a_graph_that_is_too_far_from_what_was_trained_fails_its_gate(finished_lab: Lab) -> None:
    """Nothing is nearer than the last bits of sums in another order."""
    lab = with_steps(finished_lab, "quantize: {method: qat, epochs: 1, max_drop: 1, tolerance: 1.0e-12}")
    result = lab(LINE)
    assert result.code == 21, result.err
    assert "passed  quantize.drop <= 1" in result.out
    assert "failed  quantize.parity <= 1e-12" in result.out


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "label_smoothing: 0.1",
            "quantize.label_smoothing: it needs classes, and regression has none",
        ),
        ("augment: {flip: true}", "quantize.augment: it needs images, and regression has none"),
        ("precision: bfloat16", "quantize.precision: 'bfloat16' is not"),
        ("keep_best: accuracy", "quantize.keep_best: 'accuracy' is not one of loss, rmse, mae"),
    ],
)
def test_settings_that_mean_nothing_are_refused(lab: Lab, settings: str, message: str) -> None:
    with (lab.folder / "tiny.yaml").open("a") as recipe:
        recipe.write(f"export: {{}}\nquantize: {{method: qat, {settings}}}\n")
    result = lab("plan tiny.yaml")
    assert result.code == 2, result.err
    assert message in result.err
    assert "next: " in result.err
    assert "Traceback" not in result.err


UNKNOWN = """\
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.body = nn.Linear(input_shapes[0][0], 9)
        self.head = nn.Linear(1, outputs)

    def forward(self, rows):
        return self.head(torch.linalg.det(self.body(rows).reshape(-1, 3, 3)).reshape(-1, 1))
"""


def test_an_operator_without_a_gradient_is_named_before_anything_is_calibrated(tmp_path: Path) -> None:
    lab = new_lab(tmp_path)
    (lab.folder / "nets.py").write_text(UNKNOWN)
    text = TINY.replace("{arch: mlp, hidden: [4]}", '{arch: "nets:Net"}').replace("epochs: 2", "epochs: 1")
    (lab.folder / "own.yaml").write_text(f"{text}export: {{}}\nquantize: {{method: qat}}\n")
    result = lab("run own.yaml --allow-code --threads 1")
    assert result.code == 4, result.err
    assert "no gradient for the operator Det, node '" in result.err
    assert "another `method`" in result.err
    assert "calibrated" not in result.err
    assert "Traceback" not in result.err


def test_a_language_model_learns_and_its_decoder_is_left_out(language_lab: Lab) -> None:
    recipe = language_lab.folder / "language.yaml"
    recipe.write_text(recipe.read_text() + "quantize.aware: {from: export, method: qat, epochs: 1}\n")
    verdict = language_lab.json("run language.yaml --threads 1")
    found = figures(verdict, "quantize.aware")
    assert found["parity"] <= 5e-3
    # One more pass over a text that four have not learnt by heart: bits per character.
    assert found["drop"] < found["static_drop"]
    folder = language_lab.artifact("language", "quantize.aware")
    assert not (folder / "decoder.onnx").exists()
    assert (folder / "tokenizer.json").exists()
