"""`mlctl compare` on the steps of a small life, and on files from elsewhere."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import TINY, Finished, Lab
from onnx import helper, numpy_helper

TRAIN = ".mlctl/steps/whole/train"
EXPORT = ".mlctl/steps/whole/export"


def figures(result: Finished) -> dict[tuple[str, str], dict[str, Any]]:
    """By model and name."""
    [step] = json.loads(result.out)["steps"]
    return {(each["model"], each["figure"]): each for each in step["figures"]}


def spoilt_export(lab: Lab) -> str:
    """The export with its classes in turn: whoever was right is wrong."""
    proto = onnx.load(lab.folder / EXPORT / "model.onnx")
    [weight] = [each for each in proto.graph.initializer if each.name == "network.head.weight"]
    [bias] = [each for each in proto.graph.initializer if each.name == "network.head.bias"]
    for each in (weight, bias):
        each.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(numpy_helper.to_array(each)[::-1]), each.name))
    onnx.save_model(proto, lab.folder / "spoilt.onnx")
    return "spoilt.onnx"


def test_a_model_and_its_export_are_alike(finished_lab: Lab) -> None:
    before = sorted(finished_lab.folder.rglob("*"))
    result = finished_lab(f"compare {TRAIN} {EXPORT} --rounds 20 --batch 1")
    assert result.code == 0
    assert result.err.splitlines()[0] == "compare  run"
    title, headings, _, train, export, *rest = result.out.splitlines()
    assert title.startswith("compare: ")
    assert title.endswith("rows of the test split")
    assert [*headings.split()[:2]] == ["model", "accuracy"]
    assert train.split()[0] == "train"
    assert export.split()[0] == "export"
    assert "1 [" in export
    assert not [line for line in rest if "lost on" in line]
    assert sorted(finished_lab.folder.rglob("*")) == before


def test_every_difference_is_paired_with_the_first(finished_lab: Lab) -> None:
    spoilt = spoilt_export(finished_lab)
    result = finished_lab(f"compare {EXPORT} {spoilt} {TRAIN} --rounds 20 --json --quiet")
    assert (result.code, result.err) == (0, "")
    found = figures(result)
    right = found["export", "accuracy"]["value"]
    assert found["spoilt", "accuracy"]["value"] == pytest.approx(1 - right)
    assert found["spoilt", "difference"]["value"] == pytest.approx(1 - 2 * right)
    assert found["spoilt", "agreement"]["value"] == 0
    assert found["train", "agreement"]["value"] == 1
    assert found["train", "mcnemar_p"]["value"] == 1
    assert found["spoilt", "bytes"]["value"] == pytest.approx(found["export", "bytes"]["value"], rel=0.01)
    assert {("spoilt", "p50_batch_1"), ("train", "p50_batch_32"), ("spoilt", "faster_than_first")} <= set(found)
    assert ("export", "difference") not in found
    classes = json.loads(result.out)["classes"]
    assert set(classes) == {"spoilt", "train"}
    assert {each["label"] for each in classes["spoilt"]} == {"left", "right"}
    changes = [each["second"] - each["first"] for each in classes["spoilt"]]
    assert changes == sorted(changes)


def test_classes_that_lost_are_named_and_markdown_can_be_pasted(finished_lab: Lab) -> None:
    spoilt = spoilt_export(finished_lab)
    lines = finished_lab(f"compare {EXPORT} {spoilt} --rounds 20 --markdown").out.splitlines()
    assert lines[0].startswith("**compare: ")
    head, rule, first, second = lines[2:6]
    assert head.startswith("| model | accuracy")
    assert head.count("|") == rule.count("|") == first.count("|") == second.count("|")
    assert second.startswith("| spoilt |")
    assert [line for line in lines if line.startswith("- spoilt lost on ")]


def test_steps_may_be_named_by_the_recipe(finished_lab: Lab) -> None:
    result = finished_lab("compare train export --data whole.yaml --split validation --rounds 20 --json")
    assert result.code == 0
    assert "validation_rows" in {name for _, name in figures(result)}


def test_predictions_lie_apart_in_the_targets_unit(lab: Lab) -> None:
    (lab.folder / "tiny.yaml").write_text(TINY + "\nexport: {}\n")
    assert lab("run tiny.yaml").code == 0
    result = lab("compare train export --data tiny.yaml --rounds 20 --json")
    assert result.code == 0
    apart = figures(result)["export", "rms_apart"]
    assert apart["value"] < 1e-5
    assert json.loads(result.out)["classes"] == {}


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (f"compare {EXPORT}", 2, "one model is no comparison"),
        (f"compare {EXPORT} nowhere", 2, "there is no model here"),
        (f"compare {EXPORT} logits.onnx", 3, "the graph lacks the softmax at its end"),
        (f"compare {EXPORT} wide.onnx", 3, "x is float32"),
        (f"compare {EXPORT} {TRAIN} --split nothing", 2, "'nothing' is not one of"),
    ],
)
def test_what_cannot_be_compared_is_refused(finished_lab: Lab, line: str, code: int, message: str) -> None:
    _without_softmax(finished_lab.folder)
    _other_inputs(finished_lab.folder)
    result = finished_lab(line)
    assert result.code == code
    assert message in result.err
    assert result.out == ""


def test_two_forms_of_one_answer_are_one_too_many(finished_lab: Lab) -> None:
    result = finished_lab(f"compare {EXPORT} {TRAIN} --json --markdown")
    assert result.code == 2
    [failure] = json.loads(result.out)["failures"]
    assert failure["next"] == "choose one of them"


def _without_softmax(folder: Path) -> None:
    proto = onnx.load(folder / EXPORT / "model.onnx")
    [softmax] = [node for node in proto.graph.node if node.op_type == "Softmax"]
    before = softmax.input[0]
    proto.graph.node.remove(softmax)
    proto.graph.node.append(helper.make_node("Identity", [before], [softmax.output[0]]))
    onnx.save_model(proto, folder / "logits.onnx")


def _other_inputs(folder: Path) -> None:
    value = helper.make_tensor_value_info
    ports = [value(name, onnx.TensorProto.FLOAT, ["n", 7]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 20)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=8), folder / "wide.onnx")
