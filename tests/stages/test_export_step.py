"""export as a step of a recipe: passes, external data, what is recorded, and what gates can say of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import WHOLE, Lab

PASSES = ("constant-folding", "fusion", "dead-code", "shape-inference")


def export_figures(verdict: Any, model: str | None = None) -> dict[str, float]:
    (step,) = (step for step in verdict["steps"] if step["step"] == "export")
    return {each["figure"]: each["value"] for each in step["figures"] if each["model"] == model}


def choices(artifact: Path) -> dict[str, str]:
    made: dict[str, str] = json.loads((artifact / "manifest.json").read_text())["made"]["choices"]
    return made


def test_the_figures_of_the_graph_and_of_every_pass(finished_labs: Lab) -> None:
    verdict = finished_labs.json("export whole.yaml")
    artifact = finished_labs.artifact("whole", "export")
    graph = onnx.load(artifact / "model.onnx")
    figures = export_figures(verdict)
    assert figures["nodes"] == len(graph.graph.node)
    assert figures["opset"] == graph.opset_import[0].version == 20
    assert figures["parity"] <= figures["max_absolute"] <= 1e-5
    assert figures["agreement"] == 1
    batches = json.loads((artifact / "parity.json").read_text())["batches"]
    for figure in ("max_absolute", "max_relative"):
        assert figures[figure] == max(batch[figure] for batch in batches)
    last = export_figures(verdict, PASSES[-1])
    assert (last["nodes"], last["bytes"]) == (figures["nodes"], figures["bytes"])
    for name in PASSES:
        of_pass = export_figures(verdict, name)
        assert list(of_pass) == ["nodes", "bytes", "p50_batch_1", "difference"]
        assert of_pass["p50_batch_1"] > 0


def test_the_report_of_the_passes_holds_no_timing_and_the_manifest_says_what_they_did(finished_labs: Lab) -> None:
    artifact = finished_labs.artifact("whole", "export")
    report = json.loads((artifact / "passes.json").read_text())
    assert [each["name"] for each in report] == list(PASSES)
    assert not {key for each in report for key in each if "latency" in key}
    assert all(each["kept"] for each in report)
    made = choices(artifact)
    assert made["opset"] == "20"
    assert made["pass[fusion]"] == f"nodes {report[1]['nodes_before']} → {report[1]['nodes_after']}"
    assert made["pass[dead-code]"] == "nothing to do"


def test_a_step_made_again_has_the_same_bytes(finished_lab: Lab) -> None:
    before = finished_lab.bytes_of()
    made_again = finished_lab("export whole.yaml --force export --threads 1")
    assert made_again.code == 0
    assert "other bytes" not in made_again.err
    assert finished_lab.bytes_of() == before


def test_a_line_for_a_person_leaves_the_passes_out(finished_labs: Lab) -> None:
    (line,) = (each for each in finished_labs("export whole.yaml").out.splitlines() if each.startswith("export "))
    assert line.count("nodes") == 1
    assert "max_absolute" in line


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ("export[fusion].nodes < export[constant-folding].nodes", 0),
        ("export[fusion].nodes <= 1", 23),
        ("export[fusion].p50_batch_1 <= 0", 22),
        ("export[fusion].difference < 0", 21),
        ("export.max_absolute < 0", 21),
        ("export.opset == 20", 0),
    ],
)
def test_gates_on_passes(finished_lab: Lab, gate: str, code: int) -> None:
    recipe = WHOLE.split("gates:")[0] + f"gates:\n  - '{gate}'\n"
    (finished_lab.folder / "whole.yaml").write_text(recipe)
    result = finished_lab("export whole.yaml")
    assert result.code == code, result.err
    assert gate in result.out


def test_without_passes_the_graph_is_what_the_exporter_gave(finished_lab: Lab) -> None:
    before = export_figures(finished_lab.json("export whole.yaml"))
    after = export_figures(finished_lab.json("export whole.yaml export.passes=[]"))
    assert after["nodes"] > before["nodes"]
    artifact = finished_lab.artifact("whole", "export")
    assert json.loads((artifact / "passes.json").read_text()) == []
    assert list(choices(artifact)) == ["opset"]


def test_operators_of_other_domains_are_recorded(finished_lab: Lab) -> None:
    finished_lab.json("export whole.yaml 'export.passes=[fusion, transformer-fusion]'")
    made = choices(finished_lab.artifact("whole", "export"))
    assert made["pass[transformer-fusion]"] == "nothing to do"
    assert made["opset"] == "20"


WIDE = "'train.model={arch: mlp, hidden: [32]}'"
"""A network whose weights are worth a second file."""


def test_weights_above_a_size_lie_beside_the_graph_and_answer_the_same(finished_lab: Lab) -> None:
    lab = finished_lab
    verdict = lab.json(f"run whole.yaml {WIDE} export.external_data_above=1kB --threads 1")
    two = lab.artifact("whole", "export")
    assert sorted(each.name for each in two.iterdir()) == [
        "manifest.json", "model.onnx", "model.onnx.data", "parity.json", "passes.json",
    ]  # fmt: skip
    size = sum((two / name).stat().st_size for name in ("model.onnx", "model.onnx.data"))
    assert export_figures(verdict)["bytes"] == size
    (eval_step,) = (step for step in verdict["steps"] if step["step"] == "eval")
    assert {"bytes": size} == {
        each["figure"]: each["value"]
        for each in eval_step["figures"]
        if (each["figure"], each["model"]) == ("bytes", "export")
    }
    outside = np.load(lab.artifact("whole", "eval") / "export" / "answers.npy")
    assert lab("verify whole.yaml").code == 0
    lab.json(f"run whole.yaml {WIDE} --threads 1")
    assert not (lab.artifact("whole", "export") / "model.onnx.data").exists()
    inside = np.load(lab.artifact("whole", "eval") / "export" / "answers.npy")
    assert outside.tobytes() == inside.tobytes()


def test_a_changed_byte_of_the_external_data_is_found(finished_lab: Lab) -> None:
    assert finished_lab(f"export whole.yaml {WIDE} export.external_data_above=1kB").code == 0
    data = finished_lab.artifact("whole", "export") / "model.onnx.data"
    damaged = bytearray(data.read_bytes())
    damaged[100] ^= 1
    data.chmod(0o644)
    data.write_bytes(damaged)
    result = finished_lab("verify whole.yaml")
    assert result.code == 3
    assert "model.onnx.data" in result.out + result.err


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("export.passes=[fusion, fusion]", "every pass is run once; one stands here twice"),
        ("export.passes=[fussion]", "'fussion' is not one of"),
        ("export.external_data_above=2.5GB", "one ONNX file ends at 2 GiB; write 1.9GB or less"),
        ("export.external_data_above=much", "is not a size"),
        ("export.opset=17", "export.opset"),
        ("export.opset=24", "export.opset"),
    ],
)
def test_what_a_recipe_cannot_ask_for(lab: Lab, override: str, problem: str) -> None:
    result = lab(f"plan whole.yaml '{override}'")
    assert result.code == 2
    assert problem in result.err
