"""prune through the real command: what each method leaves, what it says, and how it fails."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Lab
from PIL import Image
from safetensors.numpy import load_file

from mlctl.stages.layer_curves import SHARES

HEAD = """\
mlctl: 1
name: small
seed: 3

prepare:
  task: image-classification
  source: images.csv
  image: {columns: "pixel_*", shape: [1, 4, 4], scale: 16}
  label: side

train:
  model: %s
  epochs: 2
  batch_size: 16
  precision: float32
"""
CNN = "{arch: cnn, channels: [8, 12]}"


def with_steps(lab: Lab, *steps: str, network: str = CNN) -> Lab:
    """`small.yaml` trains the network and has these steps behind."""
    (lab.folder / "small.yaml").write_text("\n".join([HEAD % network, *steps]) + "\n")
    return lab


def figures(verdict: Any, step: str) -> dict[str, float]:
    """What a step measured, by name; of another state of its network as `before.parameters`."""
    (found,) = (each for each in verdict["steps"] if each["step"] == step)
    return {
        f"{each['model']}.{each['figure']}" if each["model"] else each["figure"]: each["value"]
        for each in found["figures"]
    }


def weights(lab: Lab, step: str) -> dict[str, Any]:
    return load_file(lab.artifact("small", step) / "model.safetensors")


def test_a_ratio_takes_its_share_of_channels_out_and_nothing_else_changes_shape(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5, scope: layer, finetune: {epochs: 1}}")
    verdict = lab.json("prune small.yaml --threads 1")
    shapes = {name: each.shape for name, each in weights(lab, "prune").items()}
    assert shapes["blocks.0.conv.weight"] == (4, 1, 3, 3)
    assert shapes["blocks.1.conv.weight"] == (6, 4, 3, 3)
    assert shapes["head.weight"] == (2, 6)
    found = figures(verdict, "prune")
    # Convolutions, two numbers a channel of normalization, and the last layer with its biases.
    assert found["before.parameters"] == 8 * 9 + 16 + 12 * 8 * 9 + 24 + 2 * 12 + 2
    assert found["parameters"] == 4 * 9 + 8 + 6 * 4 * 9 + 12 + 2 * 6 + 2
    assert found["flops"] < found["before.flops"]
    assert found["bytes"] < found["before.bytes"]
    assert {"validation_accuracy", "before.validation_accuracy", "cut.validation_accuracy"} <= found.keys()


def test_the_artifact_is_data_and_says_what_was_kept(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5, scope: layer, finetune: {epochs: 1}}")
    lab.json("prune small.yaml --threads 1")
    folder = lab.artifact("small", "prune")
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "manifest.json", "metrics.jsonl", "model.safetensors", "pruning.json",
        "structure.json",
    }  # fmt: skip
    kept = json.loads((folder / "structure.json").read_text())["kept"]
    sizes = {(axis["tensor"], axis["axis"]): len(each["indices"]) for each in kept for axis in each["axes"]}
    assert sizes["blocks.0.conv.weight", 0] == sizes["blocks.0.norm.running_mean", 0] == 4
    assert sizes["blocks.1.conv.weight", 1] == 4
    assert sizes["head.weight", 1] == 6
    report = json.loads((folder / "pruning.json").read_text())
    assert [(each["layer"], each["before"], each["after"]) for each in report["layers"]] == [
        ("blocks.0.conv", 8, 4), ("blocks.1.conv", 12, 6),
    ]  # fmt: skip
    assert report["fixed"].keys() == {"head"}


def test_a_cut_model_is_exported_quantized_distilled_and_cut_again(lab: Lab) -> None:
    lab = with_steps(
        lab,
        "prune: {ratio: 0.25, scope: layer, finetune: {epochs: 1}}",
        "prune.again: {from: prune, ratio: 0.5, scope: layer, finetune: {epochs: 1}}",
        "distill: {teacher: train, from: prune.again, epochs: 1, batch_size: 16}",
        "export: {}",
        "quantize: {method: static}",
        "eval: {latency: null}",
    )
    verdict = lab.json("run small.yaml --threads 1")
    assert figures(verdict, "export")["parity"] < 1e-4
    assert figures(verdict, "eval")["export.parameters"] < figures(verdict, "eval")["train.parameters"] / 2
    once, twice = (weights(lab, step)["blocks.1.conv.weight"] for step in ("prune", "prune.again"))
    assert once.shape == (9, 6, 3, 3)
    assert weights(lab, "distill")["blocks.1.conv.weight"].shape == twice.shape == (5, 3, 3, 3)
    # What both cuts kept is told in the numbering of the network that `config.json` builds.
    structure = json.loads((lab.artifact("small", "prune.again") / "structure.json").read_text())
    place = {"tensor": "blocks.1.conv.weight", "axis": 0}
    (kept,) = (each["indices"] for each in structure["kept"] if place in each["axes"])
    assert len(kept) == 5
    assert max(kept) < 12


def test_steps_cut_in_equal_shares_and_learn_after_each(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5, scope: layer, steps: 2, finetune: {epochs: 1}}")
    lab.json("prune small.yaml --threads 1")
    cuts = json.loads((lab.artifact("small", "prune") / "pruning.json").read_text())["cuts"]
    parameters = [each["parameters"] for each in cuts]
    assert parameters == [6 * 9 + 12 + 9 * 6 * 9 + 18 + 2 * 9 + 2, 4 * 9 + 8 + 6 * 4 * 9 + 12 + 2 * 6 + 2]


@pytest.mark.parametrize("importance", ["l1", "l2", "batch-norm", "taylor", "fisher", "lamp", "activation"])
def test_every_importance_meets_the_target(lab: Lab, importance: str) -> None:
    lab = with_steps(lab, f"prune: {{parameters: 0.5, importance: {importance}, samples: 20, finetune: null}}")
    found = figures(lab.json("prune small.yaml --threads 1"), "prune")
    assert found["parameters"] <= 0.5 * found["before.parameters"]
    assert "README.md" in {path.name for path in lab.artifact("small", "prune").iterdir()}


def test_zeros_stay_zeros_through_finetuning_and_export(lab: Lab) -> None:
    lab = with_steps(
        lab, "prune: {method: unstructured, ratio: 0.5, finetune: {epochs: 2, batch_size: 16}}", "export: {}"
    )
    verdict = lab.json("run small.yaml --threads 1")
    found = weights(lab, "prune")
    prunable = [found[name] for name in ("blocks.0.conv.weight", "blocks.1.conv.weight", "head.weight")]
    zeros, size = sum(int((each == 0).sum()) for each in prunable), sum(each.size for each in prunable)
    assert zeros == round(0.5 * size)
    before = weights(lab, "train")
    assert any((found[name] != before[name]).any() for name in found)
    assert figures(verdict, "prune")["sparsity"] == pytest.approx(
        zeros / figures(verdict, "prune")["parameters"], abs=1e-9
    )
    assert not (lab.artifact("small", "prune") / "structure.json").exists()


def test_gradual_zeros_are_all_there_at_the_end(lab: Lab) -> None:
    lab = with_steps(
        lab, "prune: {method: unstructured, ratio: 0.75, gradual: true, finetune: {epochs: 4, batch_size: 16}}"
    )
    lab.json("prune small.yaml --threads 1")
    found = weights(lab, "prune")
    prunable = [found[name] for name in ("blocks.0.conv.weight", "blocks.1.conv.weight", "head.weight")]
    assert sum(int((each == 0).sum()) for each in prunable) == round(0.75 * sum(each.size for each in prunable))


def test_two_of_every_four_weights_along_the_inputs_stay(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {method: n-of-m, finetune: {epochs: 1}}")
    lab.json("prune small.yaml --threads 1")
    kernel = weights(lab, "prune")["blocks.1.conv.weight"]
    assert ((kernel.reshape(12, 2, 4, 9) != 0).sum(axis=2) == 2).all()
    manifest = json.loads((lab.artifact("small", "prune") / "manifest.json").read_text())
    assert manifest["made"]["choices"]["whole[blocks.0.conv]"] == "its 1 inputs are no multiple of 4"


def test_what_was_cut_is_told_layer_by_layer(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5, scope: layer, finetune: {epochs: 1}}")
    result = lab("prune small.yaml --threads 1")
    assert result.code == 0, result.err
    lines = [" ".join(line.split()) for line in result.out.splitlines()]
    assert "blocks.0.conv 4 of 8 channels" in lines
    assert "head all of it: is the network's answer" in lines
    assert "network loss accuracy parameters sparsity flops size p50 batch 1" in lines


def test_sensitivity_draws_every_layer_and_makes_nothing(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5}")
    verdict = lab.json("prune small.yaml --sensitivity --output curves.png --threads 1")
    (curves,) = verdict["curves"]
    assert verdict["shares"] == list(SHARES)
    assert [(each["layer"], each["units"], len(each["values"])) for each in curves["layers"]] == [
        ("blocks.0.conv", 8, len(SHARES)), ("blocks.1.conv", 12, len(SHARES)),
    ]  # fmt: skip
    assert all(0 <= value <= 1 for each in curves["layers"] for value in each["values"])
    with Image.open(lab.folder / "curves.png") as image:
        assert image.format == "PNG"
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 8
    assert not (lab.store / "steps" / "small" / "prune").exists()
    shown = lab("prune small.yaml --sensitivity --threads 1")
    assert "blocks.1.conv" in shown.out
    assert (lab.store / "reports" / "small.prune.sensitivity.png").exists()


@pytest.mark.parametrize(
    ("step", "network", "code", "message"),
    [
        ("prune: {ratio: 0.95, scope: layer}", CNN, 2, "0.95 would leave nothing of a layer of 8 channels"),
        ("prune: {ratio: 0.5}", "{arch: linear}", 2, "one linear layer has no units that could be removed"),
        ("prune: {ratio: 0.0001}", CNN, 4, "nothing was taken out"),
        ("prune: {ratio: 0.5, finetune: {augment: {cutout: 50}}}", CNN, 2, "prune.finetune.augment.cutout"),
        ("prune: {}", CNN, 2, "exactly one of ratio, parameters, flops and latency says how much"),
        ("prune: {ratio: 0.5, protect: block*, scope: layer}", CNN, 4, "no layer can lose a unit"),
        ("prune: {ratio: 0.5, protect: blocks.7}", CNN, 4, "the network has no such layer"),
        ("prune: {parameters: 0.001}", CNN, 4, "stay where every layer keeps as few units as it can"),
        ("prune: {ratio: 0.5, finetune: {class_weights: [1, 2, 3]}}", CNN, 2, "class_weights has 3 numbers"),
        ("prune: {method: unstructured, ratio: 0.5, gradual: true, finetune: null}", CNN, 2, "gradual needs"),
        ("prune: {method: n-of-m, keep: 4}", CNN, 2, "keep 4 of 4 weights leaves all of them"),
        ("prune: {ratio: 0.5, importance: batch-norm}", "{arch: mlp, hidden: [8]}", 4, "batch"),
    ],
)
def test_what_cannot_be_pruned_is_said_with_the_right_exit_code(
    lab: Lab, step: str, network: str, code: int, message: str
) -> None:
    result = with_steps(lab, step, network=network)("prune small.yaml --threads 1")
    assert result.code == code, result.err
    assert message in result.err
    assert "next:" in result.err


def test_no_step_that_takes_out_units_has_no_curves(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {method: unstructured, ratio: 0.5}")
    result = lab("prune small.yaml --sensitivity")
    assert result.code == 2
    assert "no prune step of the recipe takes out units" in result.err


@pytest.mark.parametrize("line", ["--output x.png", "--sensitivity --force prune"])
def test_options_that_mean_nothing_together_are_refused(lab: Lab, line: str) -> None:
    result = with_steps(lab, "prune: {ratio: 0.5}")(f"prune small.yaml {line}")
    assert result.code == 2
    assert "leave" in result.err


def test_a_network_of_ones_own_is_cut_too(lab: Lab) -> None:
    (lab.folder / "nets.py").write_text(OWN)
    lab = with_steps(
        lab, "prune: {ratio: 0.5, scope: layer, finetune: {epochs: 1}}", "export: {}", network="{arch: 'nets:Net'}"
    )
    verdict = lab.json("run small.yaml --threads 1 --allow-code")
    shapes = {name: Path(name).suffix and each.shape for name, each in weights(lab, "prune").items()}
    assert shapes["depthwise.weight"] == (4, 1, 3, 3)
    assert shapes["last.weight"] == (2, 4 + 4)
    assert figures(verdict, "export")["parity"] < 1e-4


OWN = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.first = nn.Conv2d(1, 8, 3, padding=1)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.other = nn.Conv2d(1, 8, 1)
        self.last = nn.Linear(16, outputs)

    def forward(self, image):
        left = torch.relu(self.depthwise(torch.relu(self.first(image))))
        right = torch.relu(self.other(image))
        return self.last(torch.cat((left, right), 1).mean((2, 3)))
"""


def zero_share(lab: Lab, step: str) -> float:
    kernels = [each for each in weights(lab, step).values() if each.ndim >= 2]
    return float(sum((each == 0).sum() for each in kernels) / sum(each.size for each in kernels))


def test_zeros_stay_where_a_sparse_network_learns_on(lab: Lab) -> None:
    fit = "epochs: 1, batch_size: 16"
    lab = with_steps(
        lab,
        f"prune: {{method: unstructured, ratio: 0.5, scope: layer, finetune: {{{fit}}}}}",
        f"distill: {{teacher: train, from: prune, {fit}}}",
        f"prune.again: {{from: prune, ratio: 0.25, scope: layer, finetune: {{{fit}}}}}",
        "export: {from: distill}",
    )
    lab.json("run small.yaml --threads 1")
    assert zero_share(lab, "prune") >= 0.499
    assert zero_share(lab, "distill") >= zero_share(lab, "prune")
    # What was cut out had its share of the zeros, more or less.
    assert zero_share(lab, "prune.again") > 0.3


def test_a_measured_latency_says_how_much_goes(lab: Lab) -> None:
    network = "{arch: cnn, channels: [256, 256]}"
    lab = with_steps(lab, "prune: {latency: 0.7, finetune: null}", network=network)
    found = figures(lab.json("prune small.yaml --threads 1"), "prune")
    assert found["flops"] < found["before.flops"]


def test_the_report_has_what_every_layer_takes_before_and_now(lab: Lab) -> None:
    lab = with_steps(lab, "prune: {ratio: 0.5, scope: layer, steps: 2, finetune: {epochs: 2, batch_size: 16}}")
    verdict = lab.json("prune small.yaml --threads 1")
    folder = lab.artifact("small", "prune")
    report = json.loads((folder / "pruning.json").read_text())
    assert report["costs"]["blocks.1.conv"] == {
        "parameters": [12 * 8 * 9, 6 * 4 * 9],
        "multiply_adds": [12 * 8 * 9 * 4, 6 * 4 * 9 * 4],
    }
    found = figures(verdict, "prune")
    assert (report["before"]["flops"], report["after"]["flops"]) == (found["before.flops"], found["flops"])
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(each["cut"], each["epoch"]) for each in history] == [(1, 1), (1, 2), (2, 1), (2, 2)]
