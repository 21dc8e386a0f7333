"""A text from the file to a quantized graph, by the command; the network is the user's own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Lab, new_lab
from scipy.special import log_softmax

from mlctl.data.prepared import PreparedData
from mlctl.metrics.evaluation_files import EvaluationFiles
from mlctl.runtime.session import OnnxSession

NETS = """\
from torch import nn


class Net(nn.Module):
    def __init__(self, input_shapes, outputs, width=16):
        super().__init__()
        self.embedding = nn.Embedding(outputs, width)
        self.head = nn.Linear(width, outputs)

    def forward(self, tokens):
        return self.head(self.embedding(tokens))
"""
RECIPE = """\
mlctl: 1
name: lines
seed: 3

prepare:
  task: language-modeling
  source: ["*.txt"]
  tokens: {kind: bpe, vocabulary: 300}
  context: 12
  split: {train: 0.6, validation: 0.2, test: 0.2}

train:
  model: {arch: "nets:Net", arguments: {width: 8}}
  epochs: 2
  batch_size: 16
  optimizer: {name: adamw, lr: 0.01}
  label_smoothing: 0.05
  precision: float32

export: {}
quantize: {}
quantize.static: {method: static, from: export, calibration: {samples: 16}}
eval: {latency: null}

gates:
  - eval[export].perplexity <= 300
  - {that: "eval[quantize].bits_per_character <= eval[export].bits_per_character + 0.5", confidence: 0.9}
  - prepare.vocabulary == 300
"""
MODELS = ("train", "export", "quantize", "quantize.static")
METRICS = ("bits_per_character", "perplexity", "loss", "accuracy")


def write_texts(folder: Path) -> None:
    for name, start in (("a.txt", 0), ("b.txt", 500)):
        numbers = range(start, start + 300)
        lines = (f"{number} bottles of “mead” on the wall, {number} bottles of mead.\n" for number in numbers)
        (folder / name).write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab in which `lines.yaml` was run."""
    lab = new_lab(tmp_path_factory.mktemp("lines"))
    (lab.folder / "nets.py").write_text(NETS)
    (lab.folder / "lines.yaml").write_text(RECIPE)
    write_texts(lab.folder)
    result = lab("run lines.yaml --allow-code --threads 1")
    assert result.code == 0, result.err
    return lab


@pytest.fixture(scope="module")
def verdict(lines: Lab) -> Any:
    return lines.json("run lines.yaml --allow-code")


def figures(verdict: Any, step: str, model: str | None = None) -> dict[str, Any]:
    (result,) = (each for each in verdict["steps"] if each["step"] == step)
    return {figure["figure"]: figure for figure in result["figures"] if figure["model"] == model}


def logits_of(lab: Lab, model: str, split: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """A graph's logits for every window of a split, and what came next, by ONNX Runtime alone."""
    data = PreparedData.open(lab.artifact("lines", "prepare")).split(split)
    session = OnnxSession(lab.artifact("lines", model) / "model.onnx", threads=1)
    return session((data.inputs[0].astype(np.int64),)).astype(np.float64), data.targets.astype(np.int64)


def nats_of(logits: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = -np.take_along_axis(log_softmax(logits, axis=2), targets[..., None], axis=2)
    return found[..., 0]


def test_prepare_counts_windows_and_tokens(lines: Lab, verdict: Any) -> None:
    found = figures(verdict, "prepare")
    data = PreparedData.open(lines.artifact("lines", "prepare"))
    for name in ("train", "validation", "test"):
        assert found[f"{name}_rows"]["value"] == len(data.split(name))
        stream = data.split(name).stream
        assert stream is not None
        assert found[f"{name}_tokens"]["value"] == len(stream)
    assert found["vocabulary"]["value"] == 300
    assert data.description.inputs[0].dtype == "uint16"


def test_the_tokenizer_goes_with_every_model(lines: Lab) -> None:
    expected = (lines.artifact("lines", "prepare") / "tokenizer.json").read_bytes()
    for model in MODELS:
        assert (lines.artifact("lines", model) / "tokenizer.json").read_bytes() == expected
    assert "pipeline_tag: text-generation" in (lines.artifact("lines", "train") / "README.md").read_text()


def test_the_graph_takes_texts_of_any_number_and_length(lines: Lab) -> None:
    session = OnnxSession(lines.artifact("lines", "export") / "model.onnx", threads=1)
    (port,) = session.inputs
    assert (port.name, port.dtype, port.shape) == ("tokens", "int64", (None, None))
    assert session.outputs[0].name == "logits"
    for shape in ((1, 1), (3, 40)):
        assert session((np.zeros(shape, np.int64),)).shape == (*shape, 300)


@pytest.mark.parametrize("model", ["export", "quantize", "quantize.static"])
def test_figures_are_those_of_the_graphs_own_logits(lines: Lab, verdict: Any, model: str) -> None:
    logits, targets = logits_of(lines, model, "test")
    data = PreparedData.open(lines.artifact("lines", "prepare"))
    nats, found = nats_of(logits, targets), figures(verdict, "eval", model)
    assert found["loss"]["value"] == pytest.approx(nats.mean(), abs=1e-6)
    assert found["perplexity"]["value"] == pytest.approx(np.exp(nats.mean()), rel=1e-5)
    bits = nats.sum() / np.log(2) / data.token_characters[targets].sum()
    assert found["bits_per_character"]["value"] == pytest.approx(bits, rel=1e-6)
    assert found["accuracy"]["value"] == pytest.approx((logits.argmax(axis=2) == targets).mean())
    assert [name for name in METRICS if found[name]["main"]] == ["bits_per_character"]


def test_what_training_watched_is_what_the_graph_gives(lines: Lab, verdict: Any) -> None:
    logits, targets = logits_of(lines, "export", "validation")
    found = figures(verdict, "train")
    assert found["validation_loss"]["value"] == pytest.approx(nats_of(logits, targets).mean(), rel=1e-5)
    assert found["validation_accuracy"]["value"] == pytest.approx((logits.argmax(axis=2) == targets).mean(), abs=1e-3)


@pytest.mark.parametrize("step", ["quantize", "quantize.static"])
def test_what_integers_cost_is_measured_on_the_graphs_logits(lines: Lab, verdict: Any, step: str) -> None:
    (before, targets), (after, _) = (logits_of(lines, model, "validation") for model in ("export", step))
    found = figures(verdict, step)
    assert found["agreement"]["value"] == pytest.approx((before.argmax(axis=2) == after.argmax(axis=2)).mean())
    decibels = 10 * np.log10(np.square(before).sum() / np.square(after - before).sum())
    assert found["signal_to_noise"]["value"] == pytest.approx(decibels, abs=1e-3)
    characters = PreparedData.open(lines.artifact("lines", "prepare")).token_characters[targets].sum()
    drop = (nats_of(after, targets) - nats_of(before, targets)).sum() / np.log(2) / characters
    assert found["drop"]["value"] == pytest.approx(drop, abs=1e-5)


def test_a_language_model_is_quantized_dynamically_unless_the_recipe_says_otherwise(lines: Lab) -> None:
    methods = [
        json.loads((lines.artifact("lines", step) / "quantization.json").read_text())["method"]
        for step in ("quantize", "quantize.static")
    ]
    assert methods == ["dynamic", "static"]


def test_an_evaluation_keeps_four_numbers_for_a_window(lines: Lab) -> None:
    folder = lines.artifact("lines", "eval")
    files = EvaluationFiles.open(folder)
    rows = len(PreparedData.open(lines.artifact("lines", "prepare")).split("test"))
    assert files.targets.shape == (rows, 0)
    for model in MODELS:
        assert files.answers(model).shape == (rows, 4)
    assert sum(each.stat().st_size for each in rglob_files(folder)) < 100_000


def rglob_files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.npy") if path.is_file())


def test_gates_are_decided_by_windows(lines: Lab, verdict: Any) -> None:
    _, perplexity, difference, vocabulary = verdict["gates"]
    rows = len(PreparedData.open(lines.artifact("lines", "prepare")).split("test"))
    for gate in (perplexity, difference):
        assert gate["outcome"] == "passed"
        assert (gate["difference"]["method"], gate["difference"]["samples"]) == ("bootstrap", rows)
    interval = difference["difference"]
    assert interval["low"] <= difference["left"] - difference["right"] <= interval["high"]
    assert vocabulary["outcome"] == "passed"


def test_another_seed_prepares_nothing_anew(lines: Lab) -> None:
    plan = lines("plan lines.yaml seed=9").out
    assert "prepare" in plan
    assert [line.split()[1] for line in plan.splitlines() if line.startswith("prepare ")] == ["reuse"]


def test_a_model_is_not_measured_on_other_tokens(lines: Lab) -> None:
    prepare = RECIPE.split("prepare:\n")[1].split("\ntrain:")[0].replace('["*.txt"]', "a.txt")
    (lines.folder / "other.yaml").write_text(
        RECIPE.split("export:")[0].replace("name: lines", "name: other")
        + f"prepare.other:\n{prepare}\neval: {{latency: null}}\n"
    )
    result = lines("run other.yaml --allow-code --threads 1")
    assert result.code == 4, result.err
    assert "eval: train learnt other tokens than the data holds that it is to be measured on" in result.err


def test_text_that_cannot_be_learnt_from_exits_with_3(lab: Lab) -> None:
    recipe = RECIPE.split("\ntrain:")[0].replace("lines", "bad")
    (lab.folder / "bad.yaml").write_text(recipe)
    for content, message in (
        (b"caf\xe9\n" * 900, "bad.txt:1: prepare: the text is not UTF-8 (byte 0xe9 at offset 3)"),
        (b"x", "the train split has 1 character: at most 1 token, and one sample of 12 tokens needs 13"),
        (b"", "there is not a single character in it"),
        (b"z" * 9000, "the train split is the character 'z' over and over"),
    ):
        (lab.folder / "bad.txt").write_bytes(content)
        result = lab("prepare bad.yaml")
        assert result.code == 3, result.err
        assert message in result.err
        assert "next: " in result.err
        assert "Traceback" not in result.err
