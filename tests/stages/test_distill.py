"""distill through the real command: who can teach, what is learnt, what is not done twice, and how it fails."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
from conftest import Lab
from safetensors.numpy import load_file

HEAD = """\
mlctl: 1
name: taught
seed: 3

prepare:
  task: image-classification
  source: images.csv
  image: {columns: "pixel_*", shape: [1, 4, 4], scale: 16}
  label: side

train:
  model: {arch: cnn, channels: [8, 12]}
  epochs: 3
  batch_size: 16
  precision: float32
"""
FIT = "epochs: 2, batch_size: 16, precision: float32"
STUDENT = "model: {arch: cnn, channels: [4, 6]}"


def with_steps(lab: Lab, *steps: str, head: str = HEAD) -> Lab:
    """`taught.yaml` trains a teacher and has these steps behind."""
    (lab.folder / "taught.yaml").write_text("\n".join([head, *steps]) + "\n")
    return lab


def outcomes(verdict: Any) -> dict[str, str]:
    return {step["step"]: step["outcome"] for step in verdict["steps"]}


def test_a_student_learns_from_answers_that_are_computed_once(lab: Lab) -> None:
    lab = with_steps(lab, f"distill: {{teacher: train, {STUDENT}, {FIT}}}")
    first = lab.json("distill taught.yaml --threads 1")
    assert outcomes(first) == dict.fromkeys(("prepare", "train", "distill:teacher", "distill"), "ran")
    answers = lab.artifact("taught", "distill:teacher")
    logits = np.load(answers / "logits.npy")
    assert (logits.dtype, logits.shape) == (np.float16, (48, 2))
    again = lab.json("distill taught.yaml distill.temperature=2.0 --threads 1")
    assert outcomes(again)["distill:teacher"] == "reused"
    assert outcomes(again)["distill"] == "ran"
    found = load_file(lab.artifact("taught", "distill") / "model.safetensors")
    assert found["blocks.1.conv.weight"].shape == (6, 4, 3, 3)


def test_what_the_teacher_answers_is_made_anew_where_the_teacher_is_another(lab: Lab) -> None:
    lab = with_steps(lab, f"distill: {{teacher: train, {STUDENT}, {FIT}}}")
    lab.json("distill taught.yaml --threads 1")
    again = lab.json("distill taught.yaml train.epochs=1 --threads 1")
    assert outcomes(again)["distill:teacher"] == "ran"


@pytest.mark.parametrize(
    "asked",
    ["loss: decoupled", "loss: features", "loss: attention", "hard: 0.0", "hard: 0.9", "augment: {shift: 1}"],
)
def test_every_loss_leaves_a_plain_student(lab: Lab, asked: str) -> None:
    lab = with_steps(lab, f"distill: {{teacher: train, {STUDENT}, {FIT}, {asked}}}", "export: {}")
    lab.json("run taught.yaml --threads 1")
    found = load_file(lab.artifact("taught", "distill") / "model.safetensors")
    plain = load_file(lab.artifact("taught", "train") / "model.safetensors")
    assert found.keys() == plain.keys()
    history = (lab.artifact("taught", "distill") / "metrics.jsonl").read_text().splitlines()
    assert len(history) == 2


def test_an_onnx_file_teaches_as_the_network_does_that_it_was_made_from(lab: Lab) -> None:
    lab = with_steps(lab, "export: {}", f"distill: {{teacher: train, {STUDENT}, {FIT}}}")
    lab.json("run taught.yaml --threads 1")
    expected = np.load(lab.artifact("taught", "distill:teacher") / "logits.npy").astype(np.float64)
    shutil.copy(lab.artifact("taught", "export") / "model.onnx", lab.folder / "teacher.onnx")
    with_steps(lab, f"distill: {{teacher: teacher.onnx, {STUDENT}, {FIT}}}")
    lab.json("distill taught.yaml --threads 1")
    found = np.load(lab.artifact("taught", "distill:teacher") / "logits.npy").astype(np.float64)
    # Logits are known but for an offset of each row; float16 has eleven bits.
    apart = (found - found.max(1, keepdims=True)) - (expected - expected.max(1, keepdims=True))
    assert np.abs(apart).max() < 0.02


def test_the_teachers_first_weights_can_be_the_students(lab: Lab) -> None:
    lab = with_steps(
        lab,
        "distill: {teacher: train, model: {arch: cnn, channels: [8, 12]}, initialize: true, epochs: 1, "
        "optimizer: {name: sgd, lr: 1.0e-12}}",
    )
    verdict = lab.json("distill taught.yaml --threads 1")
    student, teacher = (load_file(lab.artifact("taught", step) / "model.safetensors") for step in ("distill", "train"))
    assert np.allclose(student["blocks.1.conv.weight"], teacher["blocks.1.conv.weight"], atol=1e-6)
    (step,) = (each for each in verdict["steps"] if each["step"] == "distill")
    assert step["choices"]["initialized"].endswith("arrays from train")


def test_numbers_are_learnt_from_a_teacher_too(lab: Lab) -> None:
    head = (lab.folder / "tiny.yaml").read_text().replace("name: tiny", "name: taught")
    lab = with_steps(
        lab, "distill: {teacher: train, model: {arch: mlp, hidden: [2]}, epochs: 2, batch_size: 16}", head=head
    )
    lab.json("distill taught.yaml --threads 1")
    assert np.load(lab.artifact("taught", "distill:teacher") / "numbers.npy").shape == (48, 1)


def test_a_language_model_keeps_the_likeliest_tokens_of_its_teacher(language_lab: Lab) -> None:
    recipe = language_lab.folder / "language.yaml"
    text = recipe.read_text().partition("\nexport:")[0]
    student = "model: {arch: lstm, embedding: 8, hidden: 8, layers: 1}"
    recipe.write_text(f"{text}\ndistill: {{teacher: train, {student}, epochs: 1, batch_size: 16, top_k: 4}}\n")
    language_lab.json("distill language.yaml --threads 1")
    folder = language_lab.artifact("language", "distill:teacher")
    values, indices = np.load(folder / "values.npy"), np.load(folder / "indices.npy")
    assert values.shape == indices.shape
    assert (values.shape[1:], values.dtype, indices.dtype.kind) == ((16, 4), np.float16, "u")


@pytest.mark.parametrize(
    ("steps", "code", "message"),
    [
        ([f"distill: {{teacher: prepare, {STUDENT}}}"], 2, "'prepare' does not make a model"),
        ([f"distill: {{teacher: nobody.onnx, {STUDENT}}}"], 2, "there is no file 'nobody.onnx' beside the recipe"),
        (["distill: {teacher: train, from: train, model: {arch: mlp}}"], 2, "the student is either `model` or"),
        (["export: {}", f"distill: {{teacher: export, loss: features, {STUDENT}}}"], 2, "features needs a teacher"),
        ([f"distill: {{teacher: train, layers: {{a: b}}, {STUDENT}}}"], 2, "soft-targets imitates no layers"),
        ([f"distill: {{teacher: train, loss: features, layers: {{a: b}}, {STUDENT}}}"], 4, "layer"),
        (["distill: {teacher: train, model: {arch: lstm}}"], 2, "lstm takes no inputs of image-classification"),
        ([f"distill: {{teacher: 'http://localhost/', {STUDENT}}}"], 2, "/v2/models/"),
    ],
)
def test_what_cannot_teach_is_said_with_the_right_exit_code(
    lab: Lab, steps: list[str], code: int, message: str
) -> None:
    result = with_steps(lab, *steps)("distill taught.yaml --threads 1")
    assert result.code == code, result.err
    assert message in result.err


def test_a_teacher_of_other_classes_is_refused(lab: Lab) -> None:
    lab = with_steps(lab, "export: {}")
    lab.json("run taught.yaml --threads 1")
    shutil.copy(lab.artifact("taught", "export") / "model.onnx", lab.folder / "teacher.onnx")
    images = (lab.folder / "images.csv").read_text()
    (lab.folder / "images.csv").write_text(images.replace("left", "west").replace("right", "east"))
    result = with_steps(lab, f"distill: {{teacher: teacher.onnx, {STUDENT}, {FIT}}}")("distill taught.yaml --threads 1")
    assert result.code == 3, result.err
    assert "left" in result.err


def test_the_plan_shows_the_teachers_answers_as_a_step(lab: Lab) -> None:
    lab = with_steps(lab, f"distill: {{teacher: train, {STUDENT}, {FIT}}}")
    result = lab("plan taught.yaml")
    assert [line.split()[0] for line in result.out.splitlines()] == ["prepare", "train", "distill:teacher", "distill"]
    manifest = json.dumps(lab.json("distill taught.yaml --threads 1"))
    assert "validation_accuracy" in manifest
