"""Every recipe that is shipped keeps its word, and folders, columns and files of splits go the same way."""

import csv
import gzip
import json
import shlex
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from conftest import TINY, Lab
from PIL import Image
from safetensors import safe_open
from safetensors.numpy import load_file
from small_sets import SMALL_SOURCES, write_small_sets

import mlctl
from mlctl.recipe.loading import load_recipe
from mlctl.recipe.resolved import resolved

RECIPES = Path(mlctl.__file__).parents[1] / "recipes"
SHIPPED = sorted(path.name for path in RECIPES.glob("*.yaml"))

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A copy of the recipes' folder, to run them in."""
    folder = tmp_path_factory.mktemp("shipped") / "recipes"
    shutil.copytree(RECIPES, folder, ignore=shutil.ignore_patterns(".mlctl"))
    return Lab(folder)


@pytest.fixture(scope="module")
def digits(shipped: Lab) -> Any:
    """The verdict of `digits.yaml`."""
    return shipped.json("run digits.yaml --threads 1")


@pytest.fixture(scope="module")
def line(shipped: Lab) -> Any:
    """The verdict of `linear-regression.yaml`."""
    return shipped.json("run linear-regression.yaml --threads 1")


def figure(verdict: Any, step: str, name: str, model: str | None = None) -> float:
    """A figure's value."""
    (result,) = (each for each in verdict["steps"] if each["step"] == step)
    (found,) = (each for each in result["figures"] if (each["figure"], each["model"]) == (name, model))
    return float(found["value"])


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_recipe_plans_and_its_resolved_form_means_the_same(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "recipes"
    shutil.copytree(RECIPES, folder, ignore=shutil.ignore_patterns(".mlctl"))
    write_small_sets(folder)
    lab, recipe = Lab(folder), load_recipe(folder / name)
    plan = lab(f"plan {name} {' '.join(map(shlex.quote, SMALL_SOURCES.get(name.removesuffix('.yaml'), ())))}")
    assert plan.code == 0, plan.err
    planned = [each.split()[0] for each in plan.out.splitlines() if each.split()[1:2] == ["run"]]
    # What a step brings along has its name and a role behind it.
    made = [step.name for step in recipe.steps if step.stage != "serve"]
    assert [name for name in planned if ":" not in name] == made
    shown = lab(f"show {name} --resolved")
    assert shown.code == 0, shown.err
    (folder / "resolved.yaml").write_text(shown.out, encoding="utf-8")
    assert load_recipe(folder / "resolved.yaml") == recipe
    assert resolved(load_recipe(folder / "resolved.yaml")) == shown.out


def test_digits_reaches_97_percent_in_torch_and_in_onnx(digits: Any) -> None:
    assert digits["exit_code"] == 0
    assert [gate["outcome"] for gate in digits["gates"]] == ["passed"] * 8
    assert figure(digits, "eval", "accuracy", "train") >= 0.97
    assert figure(digits, "eval", "accuracy", "export") >= 0.97


def test_digits_ends_in_integers_that_lose_nothing_that_matters(digits: Any) -> None:
    lost = figure(digits, "eval", "accuracy", "export") - figure(digits, "eval", "accuracy", "quantize")
    assert lost <= 0.005
    assert figure(digits, "eval", "parameters", "quantize") == figure(digits, "eval", "parameters", "export")
    assert figure(digits, "eval", "bytes", "quantize") <= 0.15 * figure(digits, "eval", "bytes", "train")


def test_digits_is_cut_and_learns_again_from_what_it_was(digits: Any, shipped: Lab) -> None:
    assert figure(digits, "prune", "parameters") <= 0.3 * figure(digits, "prune", "parameters", "before")
    assert figure(digits, "eval", "parameters", "distill") == figure(digits, "prune", "parameters")
    shapes = {
        name: each.shape
        for name, each in load_file(shipped.artifact("digits", "distill") / "model.safetensors").items()
    }
    # ONNX Runtime computes blocks of 16 channels, which `round_to` keeps whole.
    assert all(shapes[f"blocks.{number}.conv.weight"][0] % 16 == 0 for number in range(3))
    assert figure(digits, "eval", "accuracy", "distill") >= figure(digits, "eval", "accuracy", "train") - 0.01


def pixels_and_digits(folder: Path, rows: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], list[str]]:
    """Raw pixels [N, 1, 8, 8] and digits of these rows of the shipped table, read without mlctl."""
    with gzip.open(folder / "data" / "digits.csv.gz", "rt", newline="") as stream:
        table = list(csv.DictReader(stream))
    names = [name for name in table[0] if name.startswith("pixel_")]
    pixels = [[int(table[row][name]) for name in names] for row in rows]
    return np.array(pixels, np.uint8).reshape(-1, 1, 8, 8), [table[row]["digit"] for row in rows]


@pytest.fixture(scope="module")
def digits_graph(shipped: Lab, digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The exported graph alone, away from everything else that was made."""
    away = tmp_path_factory.mktemp("away") / "model.onnx"
    shutil.copyfile(shipped.artifact("digits", "export") / "model.onnx", away)
    return away


def test_the_graph_of_digits_needs_nothing_but_onnx_runtime(shipped: Lab, digits: Any, digits_graph: Path) -> None:
    rows = np.load(shipped.artifact("digits", "prepare") / "test" / "row.npy")
    pixels, expected = pixels_and_digits(shipped.folder, rows)
    session = onnxruntime.InferenceSession(str(digits_graph), providers=["CPUExecutionProvider"])
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.type, given.shape) == ("tensor(uint8)", ["batch", 1, 8, 8])
    assert answered.shape == ["batch", 10]
    labels = json.loads(session.get_modelmeta().custom_metadata_map["mlctl.labels"])
    (probabilities,) = session.run(None, {given.name: pixels})
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)  # ten float32 numbers up to 1
    right = [labels[best] == digit for best, digit in zip(probabilities.argmax(axis=1), expected, strict=True)]
    assert np.mean(right) == pytest.approx(figure(digits, "eval", "accuracy", "export"), abs=1e-12)
    for size in (1, 2, 33):
        (few,) = session.run(None, {given.name: pixels[:size]})
        np.testing.assert_allclose(few, probabilities[:size], atol=1e-5)  # sums in another order


def test_the_files_of_digits_say_where_they_come_from(shipped: Lab, digits: Any, digits_graph: Path) -> None:
    fingerprints = {step["step"]: step["fingerprint"] for step in digits["steps"]}
    properties = {each.key: each.value for each in onnx.load(digits_graph).metadata_props}
    assert properties["mlctl.fingerprint"] == fingerprints["export"]
    assert properties["mlctl.task"] == "image-classification"
    assert json.loads(properties["mlctl.labels"]) == [str(digit) for digit in range(10)]
    weights = shipped.artifact("digits", "train") / "model.safetensors"
    with safe_open(weights, framework="numpy") as opened:
        assert json.loads(opened.metadata()["mlctl"])["fingerprint"] == fingerprints["train"]
    card = (weights.parent / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: image-classification" in card
    assert f"| validation_accuracy | {figure(digits, 'train', 'validation_accuracy'):.6g} |" in card


def test_linear_regression_recovers_the_line_within_its_standard_errors(shipped: Lab, line: Any) -> None:
    """Against ordinary least squares in closed form, on the rows that were learnt from, in float64."""
    prepared, model = shipped.artifact("linear-regression", "prepare"), shipped.artifact("linear-regression", "train")
    x = np.load(prepared / "train" / "features.npy").astype(np.float64)[:, 0]
    y = np.load(prepared / "train" / "target.npy").astype(np.float64)
    design = np.stack([x, np.ones_like(x)], axis=1)
    inverse = np.linalg.inv(design.T @ design)
    least_squares = inverse @ design.T @ y
    residuals = y - design @ least_squares
    errors = np.sqrt(np.diag(inverse) * (residuals @ residuals) / (len(x) - 2))
    found = line_of(model)
    assert np.all(np.abs(found - [3, 2]) <= errors), (found, errors)
    # What the training adds to the noise is its own noise: a quarter of an error would add 6 % to the variance.
    assert np.all(np.abs(found - least_squares) <= 0.25 * errors), (found, least_squares, errors)
    assert figure(line, "eval", "rmse", "train") <= 0.6


def line_of(model: Path) -> Floats:
    """Slope and intercept of the trained model in the data's own units, from its files alone."""
    config = json.loads((model / "config.json").read_text())
    weights = {name: float(each.reshape(-1)[0]) for name, each in load_file(model / "model.safetensors").items()}
    (given,), target = config["input_scaling"], config["target_scaling"]
    mean, deviation = given["mean"][0] * given["scale"], given["deviation"][0] * given["scale"]
    unit, center = target["deviation"][0] * target["scale"], target["mean"][0] * target["scale"]
    slope = weights["head.weight"] * unit / deviation
    return np.array([slope, weights["head.bias"] * unit + center - slope * mean])


FOLDER = """\
mlctl: 1
name: stripes
seed: 1
prepare:
  task: image-classification
  source: stripes
  image: {shape: [3, 8, 8]}
  split: {train: 0.6, validation: 0.2, test: 0.2, stratify: true}
train:
  model: {arch: cnn, channels: [4]}
  epochs: 2
  batch_size: 8
export: {}
eval: {latency: null}
gates:
  - eval[export].accuracy >= eval[train].accuracy
"""


def test_a_folder_of_class_folders_goes_the_whole_way(tmp_path: Path) -> None:
    dice = np.random.default_rng(2)
    for number in range(30):
        kind = "across" if number % 2 else "größe/längs"
        pixels = dice.integers(0, 80, (8, 8, 3), dtype=np.uint8)
        pixels[(slice(None, None, 2), slice(None)) if number % 2 else (slice(None), slice(None, None, 2))] += 150
        folder = tmp_path / "stripes" / kind
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (tmp_path / "stripes.yaml").write_text(FOLDER)
    lab = Lab(tmp_path)
    verdict = lab.json("run stripes.yaml")
    assert [figure(verdict, "prepare", f"{split}_rows") for split in ("train", "validation", "test")] == [18, 6, 6]
    session = onnxruntime.InferenceSession(str(lab.artifact("stripes", "export") / "model.onnx"))
    assert json.loads(session.get_modelmeta().custom_metadata_map["mlctl.labels"]) == ["across", "größe"]
    picture = np.asarray(Image.open(tmp_path / "stripes" / "across" / "1.png")).transpose(2, 0, 1)[None]
    (probabilities,) = session.run(None, {session.get_inputs()[0].name: picture})
    assert probabilities.shape == (1, 2)


SPLITS = {
    "column": ("source: rows.csv", "split: {column: part}"),
    "files": ("", "split: {files: {train: [one.csv, two.csv], validation: three.csv, test: 'f*.csv'}}"),
}


@pytest.mark.parametrize("way", SPLITS)
def test_rows_go_where_a_column_or_their_file_says(lab: Lab, way: str) -> None:
    header, *rows = (lab.folder / "rows.csv").read_text().splitlines()
    parts = ["train"] * 40 + ["validation"] * 15 + ["test"] * 5
    marked = [f"{header},part", *(f"{row},{part}" for row, part in zip(rows, parts, strict=True))]
    (lab.folder / "rows.csv").write_text("\n".join(marked) + "\n")
    files = {"one": rows[:10], "two": rows[10:40], "three": rows[40:55], "four": rows[55:]}
    for name, each in files.items():
        (lab.folder / f"{name}.csv").write_text("\n".join([header, *each]) + "\n")
    source, split = SPLITS[way]
    prepare = TINY.split("train:")[0].replace("source: rows.csv", source)
    (lab.folder / "split.yaml").write_text(f"{prepare.rstrip()}\n  {split}\n")
    verdict = lab.json("prepare split.yaml")
    assert [figure(verdict, "prepare", f"{name}_rows") for name in ("train", "validation", "test")] == [40, 15, 5]
    targets = np.load(lab.artifact("tiny", "prepare") / "validation" / "target.npy")
    expected = np.array([float(row.split(",")[2]) for row in rows[40:55]], np.float32)
    assert sorted(targets.tolist()) == sorted(expected.tolist())
