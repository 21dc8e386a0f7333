"""Settings that a task cannot obey are refused where they stand; the others reach the training and the manifest."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Lab

from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.engine.stage import Work
from mlctl.errors import DataError, RecipeError
from mlctl.events import Event, Note
from mlctl.recipe.loading import load_recipe
from mlctl.stages.assembly import assemble

TABLE = """\
prepare:
  task: regression
  source: rows.csv
  features: {columns: [a, b]}
  target: y
train: {model: {arch: linear}}
"""
IMAGES = """\
prepare:
  task: image-classification
  source: rows.csv
  image: {columns: [a, b], shape: [1, 1, 2]}
  label: y
train: {model: {arch: linear}, epochs: 1, precision: float32}
"""
TEXT = """\
prepare: {task: language-modeling, source: text.txt}
train: {model: {arch: lstm}}
"""
REFUSED = [
    (TABLE, "label_smoothing=0.1", "train.label_smoothing: it needs classes, and regression has none; take it out"),
    (TABLE, "class_weights=balanced", "class_weights: it needs one class for every sample, and regression has none"),
    (TABLE, "augment={flip: true}", "train.augment: it needs images, and regression has none; take it out"),
    (TEXT, "class_weights=[1, 2]", "class_weights: it needs one class for every sample, and language-modeling has"),
    (TEXT, "augment={}", "train.augment: it needs images, and language-modeling has none"),
]


def recipe_in(folder: Path, text: str) -> Path:
    (folder / "rows.csv").write_text("a,b,y\n1,2,3\n4,5,6\n")
    (folder / "text.txt").write_text("text")
    path = folder / "small.yaml"
    path.write_text(f"mlctl: 1\nname: small\n{text}")
    return path


@pytest.mark.parametrize(("text", "override", "message"), REFUSED, ids=[override for _, override, _ in REFUSED])
def test_a_setting_that_means_nothing_to_the_task_is_refused(
    tmp_path: Path, text: str, override: str, message: str
) -> None:
    with pytest.raises(RecipeError) as refusal:
        assemble(load_recipe(recipe_in(tmp_path, text), [f"train.{override}"]))
    assert message in refusal.value.what
    assert refusal.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "override"),
    [
        (IMAGES, "train={label_smoothing: 0.1, class_weights: balanced, augment: {flip: true}}"),
        (TEXT, "train={model: {arch: gru}, label_smoothing: 0.1}"),
        (TABLE, "train.label_smoothing=0"),
    ],
)
def test_a_setting_that_the_task_can_obey_is_taken(tmp_path: Path, text: str, override: str) -> None:
    assert [step.name for step in assemble(load_recipe(recipe_in(tmp_path, text), [override])).steps] == [
        "prepare",
        "train",
    ]


EVERYTHING = (
    "train.micro_batch=5 train.label_smoothing=0.1 train.class_weights=balanced train.l1=1.0e-5 train.clip_norm=1 "
    "train.ema=0.9 'train.augment={shift: 1, flip: true, mixup: 0.2}' 'train.optimizer={name: muon}' "
    "'train.schedule={name: one-cycle}' train.checkpoint_epochs=1 'train.track={tensorboard: board}'"
)


def test_every_setting_reaches_the_training_and_what_was_chosen_the_manifest(lab: Lab) -> None:
    first = lab(f"train whole.yaml {EVERYTHING} --threads 1 --json")
    assert first.code == 0, first.err
    shown = lab(f"show whole.yaml {EVERYTHING}").out
    for text in (
        "chosen device: cpu",
        "chosen precision: float32: the recipe asks for it",
        "chosen layout: channels last: the network has kernels over images",
        "chosen data: resident: all of it fits into the memory of cpu",
        "chosen micro_batch: 5: the recipe asks for it",
        "chosen compile: no: the recipe does not ask",
        "chosen allocator: ",
    ):
        assert text in shown
    assert list((lab.folder / "board" / "whole" / "train").rglob("events.out.tfevents.*"))
    weights = (lab.artifact("whole", "train") / "model.safetensors").read_bytes()
    again = lab(f"train whole.yaml {EVERYTHING} --threads 1 --force train")
    assert again.code == 0, again.err
    assert (lab.artifact("whole", "train") / "model.safetensors").read_bytes() == weights


def test_weights_for_other_classes_than_the_datas_are_a_mistake_in_the_recipe(lab: Lab) -> None:
    result = lab("train whole.yaml 'train.class_weights=[1, 2, 3]' --threads 1")
    assert result.code == 2
    assert "train: class_weights has 3 numbers, and the data 2 labels: 'left', 'right'" in result.err
    assert "next: write one number for every label, in this order, or `balanced`" in result.err


def prepared(folder: Path, classes: list[int]) -> Path:
    """Images of 1×2 pixels, as many as `classes`, the same in every split, labelled `x` and `y`."""
    data = DataDescription(
        task="image-classification",
        inputs=(Field("image", "uint8", (1, 1, 2)),),
        input_scaling=(Scaling(255.0),),
        target=Field("y", "int64", ()),
        target_scaling=Scaling(),
        labels=("x", "y"),
        rows=dict.fromkeys(("train", "validation", "test"), len(classes)),
    )
    for split in data.rows:
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "image.npy", np.zeros((len(classes), 1, 1, 2), np.uint8))
        np.save(folder / split / "target.npy", np.array(classes, np.int64))
        np.save(folder / split / "row.npy", np.arange(len(classes)) + 100)
    data.save(folder)
    return folder


def work_in(folder: Path, data: Path, told: list[Event]) -> Work:
    (folder / "artifact").mkdir()
    return Work(
        folder=folder / "artifact",
        resume=folder / "resume",
        fingerprint="f" * 64,
        device="cpu",
        threads=1,
        choices={},
        code=None,
        tell=told.append,
        folders={"prepare": data},
        fingerprints={},
        figures={},
    )


def test_a_label_that_the_data_do_not_have_is_found_before_training_begins(tmp_path: Path) -> None:
    train = assemble(load_recipe(recipe_in(tmp_path, IMAGES), [])).steps[1].stage
    told: list[Event] = []
    work = work_in(tmp_path, prepared(tmp_path / "data", [0, 1, 0, 2, 1]), told)
    with pytest.raises(DataError) as refusal:
        train.run(work)
    assert refusal.value.exit_code == 3
    assert "row 103 of the source (counted from 0, in the train split) is 2, and the model has" in refusal.value.what
    assert told == []
    assert list(work.folder.iterdir()) == []


def test_a_split_without_rows_is_refused(tmp_path: Path) -> None:
    train = assemble(load_recipe(recipe_in(tmp_path, IMAGES), [])).steps[1].stage
    work = work_in(tmp_path, prepared(tmp_path / "data", []), [])
    with pytest.raises(DataError, match="a split that training needs has no samples") as refusal:
        train.run(work)
    assert refusal.value.exit_code == 3


def test_who_asks_for_a_compiler_on_a_cpu_is_told_what_it_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[torch.nn.Module] = []

    def as_it_is(network: torch.nn.Module, mode: str) -> torch.nn.Module:
        assert mode == "default"
        compiled.append(network)
        return network

    monkeypatch.setattr(torch, "compile", as_it_is)
    train = assemble(load_recipe(recipe_in(tmp_path, IMAGES), ["train.compile=true"])).steps[1].stage
    told: list[Event] = []
    work = work_in(tmp_path, prepared(tmp_path / "data", [0, 1, 0, 1]), told)
    train.run(work)
    assert len(compiled) == 1
    assert [event.text for event in told if isinstance(event, Note)] == [
        "on a CPU torch.compile takes longer to build most networks than it ever saves"
    ]
    assert work.choices["compile"] == "yes: the recipe asks for it"
