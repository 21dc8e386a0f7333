"""`mlctl export --from model.onnx --data recipe.yaml`, and where the model goes."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import Lab
from graphs_from_elsewhere import model
from onnx import helper

from mlctl.stages.artifacts import OnnxModel
from mlctl.stages.handing_out import hand_out


@pytest.fixture
def foreign(lab: Lab) -> Lab:
    """A lab with `Net (1).onnx`, a linear model of its images."""
    nodes = [helper.make_node("Flatten", ["image"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["scores"])]
    weights = np.random.default_rng(8).normal(size=(16, 2)).astype(np.float32)
    proto = model(nodes, {"image": (1, [None, 1, 4, 4])}, {"scores": (1, [None, 2])}, {"w": weights})
    onnx.save(proto, lab.folder / "Net (1).onnx")
    return lab


EXPORT = "export --from 'Net (1).onnx' --data whole.yaml --threads 1"


def test_a_file_is_adopted_beside_the_data_recipes_own_steps(foreign: Lab) -> None:
    before = {name: (foreign.folder / name).read_bytes() for name in ("whole.yaml", "Net (1).onnx")}
    verdict = foreign.json(f"{EXPORT} export.tolerance=0.01 --output taken.onnx")
    assert [(step["step"], step["outcome"]) for step in verdict["steps"]] == [("prepare", "ran"), ("export", "ran")]
    assert [gate["text"] for gate in verdict["gates"]] == ["export.parity <= 0.01"]
    assert verdict["recipe"] == "whole.yaml"
    assert sorted(path.name for path in (foreign.store / "steps").iterdir()) == ["net--1-.onnx"]
    made = (foreign.artifact("net--1-.onnx", "export") / "model.onnx").read_bytes()
    assert (foreign.folder / "taken.onnx").read_bytes() == made
    assert {name: (foreign.folder / name).read_bytes() for name in before} == before
    again = foreign(EXPORT)
    assert (again.code, again.err) == (0, "prepare  reuse\nexport   reuse\n")


def test_the_data_are_prepared_once_for_both(foreign: Lab) -> None:
    assert foreign("prepare whole.yaml --quiet").code == 0
    assert foreign(EXPORT).err.startswith("prepare  reuse\nexport   run")


def test_output_also_takes_what_a_recipe_makes(finished_lab: Lab) -> None:
    assert finished_lab("export whole.yaml -o here.onnx").code == 0
    made = finished_lab.artifact("whole", "export") / "model.onnx"
    assert (finished_lab.folder / "here.onnx").read_bytes() == made.read_bytes()
    assert not list(finished_lab.folder.glob(".here*"))


def test_no_output_where_a_gate_fails(foreign: Lab) -> None:
    result = foreign(f"{EXPORT} export.tolerance=1.0e-12 -o out.onnx prepare.image.standardize=true")
    assert result.code == 21, result.err
    assert not (foreign.folder / "out.onnx").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("export", "export takes a recipe or `--from FILE`; neither is here"),
        ("export whole.yaml --from m.onnx --data whole.yaml", "takes a recipe or `--from FILE`, not both"),
        ("export --from m.onnx", "random data prove nothing"),
        ("export --from m.onnx export.tolerance=1", "random data prove nothing"),
        ("export whole.yaml --data whole.yaml", "`--data` goes with `--from`"),
        ("export --from m.pt --data whole.yaml", "`--from` takes an ONNX file"),
        ("export --from m.onnx --data nowhere.yaml", "nowhere.yaml: no such recipe"),
        ("export --from m.onnx --data whole.yaml export.opsett=3", "--set export.opsett=3: export.opsett: unknown key"),
        ("export --from m.onnx --data whole.yaml train.epochs=3", "train.epochs=3: train: a model from elsewhere"),
        ("export --from m.onnx --data broken.yaml", "broken.yaml:5:9: prepare.task: 'none' is not one of"),
        ("export --from m.onnx --data broken.yaml", "broken.yaml:3:1: trian: unknown key"),
        ("export --from m.onnx --data empty.yaml", "--from m.onnx: export: no step above makes prepared data"),
        ("export --from m.onnx --data whole.yaml -o nowhere/m.onnx", "nowhere/m.onnx: no file can be written there"),
        ("export --from m.onnx --data whole.yaml -o .", "no file can be written there"),
        ("export --from m.onnx --data whole.yaml -o m.onnx", "this is the file that `--from` reads"),
        ("export two.yaml -o m.onnx", "several export steps: export, export.b"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_runs(foreign: Lab, line: str, message: str) -> None:
    shutil.copy(foreign.folder / "Net (1).onnx", foreign.folder / "m.onnx")
    (foreign.folder / "broken.yaml").write_text("mlctl: 1\nname: x\ntrian: {}\nprepare:\n  task: none\n")
    (foreign.folder / "empty.yaml").write_text("mlctl: 1\nname: x\ntrain: {}\n")
    whole = (foreign.folder / "whole.yaml").read_text()
    (foreign.folder / "two.yaml").write_text(whole.replace("export: {}", "export: {}\nexport.b: {from: train}"))
    result = foreign(line)
    assert (result.code, result.out) == (2, "")
    assert message in result.err
    assert "  next: " in result.err
    assert not foreign.store.exists()


def test_a_model_that_is_not_there_is_a_data_error(foreign: Lab) -> None:
    result = foreign("export --from nowhere.onnx --data whole.yaml")
    assert result.code == 3
    assert "nowhere.onnx: the ONNX file cannot be read (No such file or directory)" in result.err


def test_external_data_go_along_under_the_new_name(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(size=(16, 200)).astype(np.float32)
    proto = model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (1, ["n", 16])}, {"y": (1, ["n", 200])}, {"w": weights}
    )
    (tmp_path / "made").mkdir()
    (tmp_path / "out").mkdir()
    onnx.save(proto, tmp_path / "made" / "model.onnx", save_as_external_data=True, location="model.onnx.data")
    hand_out(OnnxModel(tmp_path / "made"), tmp_path / "out" / "net.int8.onnx")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["net.int8.onnx", "net.int8.onnx.data"]
    session = onnxruntime.InferenceSession(str(tmp_path / "out" / "net.int8.onnx"), providers=["CPUExecutionProvider"])
    rows = np.ones((2, 16), np.float32)
    np.testing.assert_allclose(session.run(None, {"x": rows})[0], rows @ weights, atol=1e-4)  # 16 float32 sums


def test_nothing_is_left_where_a_copy_fails(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(FileNotFoundError):
        hand_out(OnnxModel(tmp_path / "made"), tmp_path / "out.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_quantize_takes_a_file_through_export_first(foreign: Lab) -> None:
    line = "quantize --from 'Net (1).onnx' --data whole.yaml --threads 1 quantize.method=dynamic -o small.onnx"
    verdict = foreign.json(line)
    assert [(step["step"], step["outcome"]) for step in verdict["steps"]] == [
        ("prepare", "ran"),
        ("export", "ran"),
        ("quantize", "ran"),
    ]
    made = foreign.artifact("net--1-.onnx", "quantize") / "model.onnx"
    assert (foreign.folder / "small.onnx").read_bytes() == made.read_bytes()
    operators = [node.op_type for node in onnx.load(made).graph.node]
    assert any("Integer" in name or "DynamicQuantize" in name for name in operators)
    assert (
        foreign("export --from 'Net (1).onnx' --data whole.yaml --threads 1").err == "prepare  reuse\nexport   reuse\n"
    )


def test_a_graph_without_anything_to_calibrate_is_a_clear_failure(foreign: Lab) -> None:
    """float64 has no form with integers, and nothing is measured for it."""
    weights = np.random.default_rng(8).normal(size=(16, 2))
    nodes = [helper.make_node("Flatten", ["image"], ["x"]), helper.make_node("MatMul", ["x", "w"], ["scores"])]
    wide = int(onnx.TensorProto.DOUBLE)
    proto = model(nodes, {"image": (wide, [None, 1, 4, 4])}, {"scores": (wide, [None, 2])}, {"w": weights})
    onnx.save(proto, foreign.folder / "wide.onnx")
    result = foreign("quantize --from wide.onnx --data whole.yaml --threads 1 quantize.method=static")
    assert result.code == 4, result.err
    assert "no node of this graph is left to quantize" in result.err
    assert list((foreign.store / "work").iterdir()) == []
