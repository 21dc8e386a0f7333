"""What changes an artifact's name, and what only changes how a recipe is written or run."""

import re
from pathlib import Path

import pytest

from mlctl.engine.plan import Planner
from mlctl.engine.sources import SourceLedger
from mlctl.engine.store import Store
from mlctl.recipe.loading import load_recipe
from mlctl.stages.assembly import assemble

WHOLE = """\
mlctl: 1
name: small
seed: 3
prepare:
  task: regression
  source: rows.csv
  features: {columns: [a, b]}
  target: y
train:
  model: {arch: mlp, hidden: [4]}
  epochs: 2
export: {}
eval: {latency: {batch: [1]}}
"""


def fingerprints(folder: Path, text: str, *overrides: str) -> dict[str, str]:
    """The fingerprint of every step of the recipe `text`, which lies beside `rows.csv`."""
    if not (folder / "rows.csv").exists():
        (folder / "rows.csv").write_text("a,b,y\n1,2,3\n4,5,6\n")
    (folder / "small.yaml").write_text(text)
    life = assemble(load_recipe(folder / "small.yaml", overrides))
    store = Store(folder / "store")
    store.prepare()
    plan = Planner(store, SourceLedger(folder / "store" / "sources.json")).plan(
        life, frozenset(step.name for step in life.steps)
    )
    return {planned.step.name: planned.fingerprint for planned in plan.steps}


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.checkpoint_seconds=1"],
        ["export.tolerance=0.5"],
        ["train.data=prepare"],
        ["export.from=train"],
        ["eval.data=prepare"],
        ["name=other"],
        ["gates=['eval[train].rmse <= 1']"],
        ["train.batch_size=128", "train.keep_best=loss", "train.optimizer.name=adamw"],
        ["prepare.source=[rows.csv]", "prepare.split={train: 0.8, validation: 0.1, test: 0.1}"],
        ["export.opset=20"],
        ["export.external_data_above=1500 MB"],
        ["export.passes=[constant-folding, fusion, dead-code, shape-inference]"],
        ["eval.split=test", "eval.metrics=[mse, rmse, mae, r2]", "eval.confidence=0.95"],
    ],
    ids=lambda overrides: overrides[0].split("=")[0],
)
def test_what_changes_no_byte_changes_no_fingerprint(tmp_path: Path, overrides: list[str]) -> None:
    assert fingerprints(tmp_path, WHOLE, *overrides) == fingerprints(tmp_path, WHOLE)


@pytest.mark.parametrize(
    ("override", "changed"),
    [
        ("seed=4", {"prepare", "train", "export", "eval"}),
        ("prepare.features.columns=[b, a]", {"prepare", "train", "export", "eval"}),
        ("prepare.on_bad=skip", {"prepare", "train", "export", "eval"}),
        ("prepare.standardize_target=false", {"prepare", "train", "export", "eval"}),
        ("train.epochs=3", {"train", "export", "eval"}),
        ("train.model.hidden=[5]", {"train", "export", "eval"}),
        ("train.optimizer={name: sgd, lr: 0.5}", {"train", "export", "eval"}),
        ("train.early_stopping={patience: 2}", {"train", "export", "eval"}),
        ("train.precision=float32", {"train", "export", "eval"}),
        ("train.keep_best=null", {"train", "export", "eval"}),
        ("export.opset=18", {"export", "eval"}),
        ("export.passes=[]", {"export", "eval"}),
        ("export.passes=[fusion, constant-folding, dead-code, shape-inference]", {"export", "eval"}),
        ("export.external_data_above=1kB", {"export", "eval"}),
        ("eval.split=validation", {"eval"}),
        ("eval.runtime=openvino", {"eval"}),
        ("eval.metrics=[mae]", {"eval"}),
        ("eval.latency.rounds=20", {"eval"}),
        ("eval.latency=null", {"eval"}),
        ("eval.confidence=0.9", {"eval"}),
    ],
)
def test_what_changes_bytes_changes_the_step_and_all_that_follow_from_it(
    tmp_path: Path, override: str, changed: set[str]
) -> None:
    before, after = fingerprints(tmp_path, WHOLE), fingerprints(tmp_path, WHOLE, override)
    assert {step for step in before if before[step] != after[step]} == changed


def test_other_data_under_the_same_name_changes_every_step(tmp_path: Path) -> None:
    before = fingerprints(tmp_path, WHOLE)
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,3\n4,5,7\n")
    after = fingerprints(tmp_path, WHOLE)
    assert not set(before.values()) & set(after.values())


def test_a_steps_own_name_is_no_part_of_its_fingerprint(tmp_path: Path) -> None:
    named = re.sub(r"^(prepare|train|export):", r"\1.mine:", WHOLE, flags=re.MULTILINE)
    before, after = fingerprints(tmp_path, WHOLE), fingerprints(tmp_path, named)
    for step in ("prepare", "train", "export"):
        assert after[f"{step}.mine"] == before[step]
    # An evaluation keeps answers under its models' names, so there they are bytes.
    assert after["eval"] != before["eval"]


TWO = WHOLE.split("export:")[0] + "train.other: {model: {arch: linear}}\neval: {latency: null}\n"


def test_the_order_of_models_is_part_of_an_evaluation_for_the_first_is_compared_with(tmp_path: Path) -> None:
    head, trains = TWO.split("train:", 1)
    first, other = trains.split("train.other:")
    swapped = f"{head}train.other:{other.split('eval:')[0]}train:{first}eval: {{latency: null}}\n"
    before, after = fingerprints(tmp_path, TWO), fingerprints(tmp_path, swapped)
    assert before["train"] == after["train"]
    assert before["train.other"] == after["train.other"]
    assert before["eval"] != after["eval"]


def test_the_same_settings_on_other_data_are_another_model(tmp_path: Path) -> None:
    prepare = WHOLE.split("prepare:\n")[1].split("train:")[0]
    two = (
        f"mlctl: 1\nname: two\nprepare.a:\n{prepare}prepare.b:\n{prepare.replace('[a, b]', '[a]')}"
        "train.a: {data: prepare.a, model: {arch: linear}}\ntrain.b: {data: prepare.b, model: {arch: linear}}\n"
        "train.c: {model: {arch: linear}}\n"
    )
    found = fingerprints(tmp_path, two)
    assert found["prepare.a"] != found["prepare.b"]
    assert found["train.a"] != found["train.b"]
    assert found["train.c"] == found["train.b"]
