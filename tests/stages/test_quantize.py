"""quantize through the real command: what each method leaves, what it says, and how it fails."""

import json

import onnx
import pytest
from conftest import Lab
from quantized_steps import LINE, artifact, figures, operators, report, with_steps

from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.engine.manifest import Manifest
from mlctl.runtime.machine import this_processor

METHODS = ("static", "dynamic", "weight-only", "float16", "auto")


@pytest.mark.parametrize("base", ["whole", "tiny"])
def test_every_method_leaves_a_graph_and_says_what_it_did(finished_lab: Lab, base: str) -> None:
    lab = with_steps(
        finished_lab, *(f"quantize.{each}: {{method: {each}, from: export}}" for each in METHODS), base=base
    )
    before = {path.name for path in lab.folder.iterdir()}
    verdict = lab.json(LINE)
    assert {path.name for path in lab.folder.iterdir()} == before
    assert [step["outcome"] for step in verdict["steps"]][-5:] == ["ran"] * 5
    scheme = choose_scheme("auto", "auto", this_processor().instruction_sets)
    made = {"static": "QuantizeLinear", "weight-only": "MatMulNBits", "float16": "Cast", "auto": "QuantizeLinear"}
    for method in METHODS:
        folder = artifact(lab, f"quantize.{method}")
        assert {path.name for path in folder.iterdir()} >= {"model.onnx", "quantization.json", "manifest.json"}
        assert made.get(method, "DynamicQuantizeLinear") in operators(folder), method
        found = figures(verdict, f"quantize.{method}")
        assert found["quantized_nodes"] >= 1
        assert found["bytes"] == (folder / "model.onnx").stat().st_size
        assert found["faster_than_parent"] > 0
        assert 0 <= found["agreement"] <= 1 or base == "tiny"
        assert found["signal_to_noise"] > 15
        told = report(lab, f"quantize.{method}")
        assert len(told["quantized"]) == found["quantized_nodes"]
        assert told["drop"] == pytest.approx(found["drop"])
        choices = Manifest.load(folder).made.choices
        assert choices["method"] == told["method"] == {"auto": "static"}.get(method, method)
        assert ("scheme" in choices) == (method in ("static", "dynamic", "auto"))
        if "scheme" in choices:
            assert choices["scheme"].endswith(scheme.why)
        model = onnx.load(folder / "model.onnx")
        properties = {each.key: each.value for each in model.metadata_props}
        assert properties["mlctl.task"] == ("image-classification" if base == "whole" else "regression")
        assert json.loads(properties["mlctl.quantization"])["method"] == choices["method"]
        assert Manifest.load(folder).fingerprint == properties["mlctl.fingerprint"]


def test_a_second_run_reuses_and_a_forced_one_makes_the_same_bytes(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: static}")
    assert lab(LINE).code == 0
    assert lab("plan quantized.yaml").out.splitlines()[-1] == "quantize  reuse"
    before = {path.name: path.read_bytes() for path in artifact(lab).iterdir() if path.name != "manifest.json"}
    verdict = lab.json(f"{LINE} --force quantize")
    assert verdict["steps"][-1]["outcome"] == "ran"
    for name, content in before.items():
        assert (artifact(lab) / name).read_bytes() == content, name
    assert lab.json(LINE)["steps"][-1]["outcome"] == "reused"
    changed = lab("plan quantized.yaml quantize.calibration.samples=20").out.splitlines()[-1]
    assert "quantize.calibration.samples: 512 → 20" in changed
    # Memory changes no byte, so that another machine may reuse the artifact.
    assert lab("plan quantized.yaml quantize.calibration.max_memory=10kB").out.splitlines()[-1] == "quantize  reuse"


def test_a_loss_that_cannot_be_met_fails_the_gate_and_leaves_its_report(finished_lab: Lab) -> None:
    """Half of all values are cut off: whichever node stays in integers, the error of a good fit grows."""
    calibration = "{method: percentile, percentile: 51}"
    lab = with_steps(
        finished_lab, f"quantize: {{method: static, calibration: {calibration}, max_drop: 0}}", base="tiny"
    )
    line = f"{LINE} train.epochs=80 'train.optimizer={{name: adamw, lr: 0.02}}'"
    result = lab(line)
    assert result.code == 20, result.err
    assert "failed  quantize.drop <= 0" in result.out
    assert "Traceback" not in result.err
    told = report(lab)
    assert told["is_met"] is False
    assert told["evaluations"] >= 2
    assert told["drop"] > 0
    # The more harmful nodes were given back, and are named with what their integers did to the answer.
    assert told["kept"]
    assert told["quantized"]
    choices = Manifest.load(artifact(lab)).made.choices
    for kept in told["kept"]:
        assert kept["decibels"] < 20
        assert choices[f"float[{kept['node']}]"] == f"{kept['decibels']:.1f} dB"
    again = lab(line)
    assert again.code == 20
    assert "quantize  reuse" in again.err


@pytest.mark.parametrize(
    ("method", "exclude", "message"),
    [
        ("static", "{nodes: ['*']}", "no node of this graph"),
        ("dynamic", "{types: [Conv, Gemm]}", "no node of this graph"),
        ("static", "{nodes: [nothing_like_it]}", "`exclude` names nothing_like_it, and the graph has no such node"),
    ],
)
def test_what_cannot_be_excluded_is_a_clear_failure(finished_lab: Lab, method: str, exclude: str, message: str) -> None:
    lab = with_steps(finished_lab, f"quantize: {{method: {method}, exclude: {exclude}}}")
    result = lab(LINE)
    assert result.code == 4, result.err
    assert message in result.err
    assert "next: " in result.err
    assert "Traceback" not in result.err
    assert list((lab.store / "work").iterdir()) == []
    assert not (lab.store / "steps" / "whole" / "quantize").exists()


def test_excluded_nodes_stay_in_float_and_a_loss_that_is_met_at_once_costs_one_look(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: static, max_drop: 1, exclude: {types: [Conv]}}")
    verdict = lab.json(LINE)
    told = report(lab)
    parent = onnx.load(artifact(lab, "export") / "model.onnx")
    convolutions = {node.name for node in parent.graph.node if node.op_type == "Conv"}
    assert set(told["excluded"]) == convolutions
    assert not convolutions.intersection(told["quantized"])
    stored = {each.name for each in onnx.load(artifact(lab) / "model.onnx").graph.initializer}
    weights = {node.input[1] for node in parent.graph.node if node.name in convolutions}
    assert weights <= stored
    assert figures(verdict, "quantize")["quantized_nodes"] == len(told["quantized"])
    assert (told["is_met"], told["kept"], told["evaluations"]) == (True, [], 1)
    assert "quantize.drop <= 1" in json.dumps(verdict["gates"])


def test_a_slow_scheme_is_measured_and_warned_about(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: static, activations: int8}")
    result = lab(LINE)
    assert result.code == 0, result.err
    assert "activations in int8: ONNX Runtime's fast kernels take uint8; measured on one row: x " in result.err
    assert result.err.index("measured on") < result.err.rindex("calibrated")


def test_ranges_are_written_down(finished_lab: Lab) -> None:
    methods = ("minmax", "percentile", "entropy", "mse")
    steps = [
        f"quantize.{each}: {{method: static, from: export, calibration: {{method: {each}, samples: 20}}}}"
        for each in methods
    ]
    lab = with_steps(finished_lab, *steps)
    assert lab(LINE).code == 0
    told = {each: report(lab, f"quantize.{each}") for each in methods}
    widest = told["minmax"]["ranges"]
    assert widest
    for each in told.values():
        assert each["calibration_rows"] == 20
        assert each["ranges"].keys() == widest.keys()
        for name, found in each["ranges"].items():
            assert widest[name]["low"] <= found["low"] <= 0 <= found["high"] <= widest[name]["high"]


def test_less_memory_takes_more_passes_and_finds_the_same(finished_lab: Lab) -> None:
    lab = with_steps(finished_lab, "quantize: {method: static}")
    assert lab(LINE).code == 0
    before = {path.name: path.read_bytes() for path in artifact(lab).iterdir() if path.name != "manifest.json"}
    result = lab(f"{LINE} --force quantize quantize.calibration.max_memory=260B")
    assert result.code == 0, result.err
    assert "in 2 passes" in result.err
    assert {name: (artifact(lab) / name).read_bytes() for name in before} == before
