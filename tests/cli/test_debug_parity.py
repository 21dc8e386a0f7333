"""`mlctl debug parity` on the steps of a small life, and on what somebody broke afterwards."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Finished, Lab

TRAIN = ".mlctl/steps/whole/train"
EXPORT = ".mlctl/steps/whole/export"
NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(16, outputs))

    def forward(self, images):
        return self.layers(images)
"""


def broken_export(lab: Lab) -> Path:
    """The export with its last weight changed, in a file that no manifest knows."""
    proto = onnx.load(lab.folder / EXPORT / "model.onnx")
    [weight] = [each for each in proto.graph.initializer if each.name == "network.head.weight"]
    values = onnx.numpy_helper.to_array(weight).copy()
    values[0] += np.float32(0.5)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))
    path = lab.folder / "broken.onnx"
    onnx.save_model(proto, path)
    return path


def verdict(result: Finished) -> Any:
    return json.loads(result.out)


def test_a_model_and_its_export_agree(finished_lab: Lab) -> None:
    before = sorted(path for path in finished_lab.folder.rglob("*"))
    result = finished_lab(f"debug parity {TRAIN} {EXPORT}")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == [f"A  {TRAIN} (torch)", f"B  {EXPORT} (onnx)"]
    assert lines[2] == "6 rows of the validation split, 8 tensors of B compared, 0 not in A"
    assert lines[3] == "no tensor differs beyond 0.0001"
    assert lines[4].startswith("passed  parity <= 0.0001")
    assert sorted(path for path in finished_lab.folder.rglob("*")) == before


def test_every_tensor_is_listed_on_request(finished_lab: Lab) -> None:
    text = finished_lab(f"debug parity {TRAIN} {EXPORT} --all --rows 2").out
    table = text.partition("2 rows of the validation split")[2].splitlines()[1:]
    assert table[0].split() == [
        "tensor", "operator", "module", "absolute", "relative", "signal/noise", "lost", "rounding",
    ]  # fmt: skip
    [head] = [line.split() for line in table if line.startswith("linear")]
    assert head[1:3] == ["Gemm", "network.head"]
    graph = onnx.load(finished_lab.folder / EXPORT / "model.onnx").graph
    assert [line.split()[0] for line in table[1:9]] == [node.output[0] for node in graph.node]


def test_a_changed_weight_ends_in_exit_21_with_its_node_and_module(finished_lab: Lab) -> None:
    broken_export(finished_lab)
    result = finished_lab(f"debug parity {EXPORT} broken.onnx")
    assert result.code == 21
    assert "the first tensor that differs beyond 0.0001: linear\n" in result.out
    assert "  module      network.head\n" in result.out
    assert "  node        node_linear (Gemm)\n" in result.out
    assert "  weights     network.head.weight, network.head.bias\n" in result.out
    assert "  answers     probabilities: absolute " in result.out
    assert result.out.splitlines()[-1].startswith("failed  parity <= 0.0001")


def test_torch_is_compared_with_a_broken_graph_as_well(finished_lab: Lab) -> None:
    broken_export(finished_lab)
    result = finished_lab(f"debug parity {TRAIN} broken.onnx --all --json")
    found = verdict(result)
    assert (result.code, found["exit_code"], found["passed"], found["command"]) == (21, 21, False, "debug parity")
    [gate] = found["gates"]
    assert (gate["text"], gate["outcome"], gate["left"]) == ("parity <= 0.0001", "failed", found["parity"]["worst"])
    first = found["parity"]["first"]
    assert (first["name"], first["module"], first["operator"]) == ("linear", "network.head", "Gemm")
    assert first["max_difference"] > 1e-4
    assert found["parity"]["data"] == str(finished_lab.artifact("whole", "prepare"))
    assert [each["name"] for each in found["parity"]["tensors"]][-2:] == ["linear", "probabilities"]


def test_a_wide_tolerance_lets_it_pass(finished_lab: Lab) -> None:
    broken_export(finished_lab)
    assert finished_lab(f"debug parity {EXPORT} broken.onnx --tolerance 1e6").code == 0


def test_files_that_no_store_knows_need_data(finished_lab: Lab) -> None:
    broken_export(finished_lab)
    result = finished_lab("debug parity broken.onnx broken.onnx")
    assert (result.code, result.out) == (2, "")
    assert "`--data RECIPE`" in result.err
    assert finished_lab("debug parity broken.onnx broken.onnx --data whole.yaml").code == 0


def test_data_are_prepared_where_they_were_not_yet(finished_lab: Lab) -> None:
    shutil.copy(finished_lab.folder / EXPORT / "model.onnx", finished_lab.folder / "net.onnx")
    result = finished_lab("debug parity net.onnx net.onnx --data whole.yaml --store fresh --json")
    assert result.code == 0, result.err
    prepared = finished_lab.artifact("whole", "prepare", finished_lab.folder / "fresh")
    found = verdict(result)["parity"]
    assert Path(finished_lab.folder, found["data"]).resolve() == prepared
    assert (found["first"], "tensors" in found) == (None, False)
    assert "prepare  run" in result.err


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        (f"{TRAIN} nowhere.onnx", 2, "nowhere.onnx: there is no model here"),
        (f"{TRAIN} .mlctl/steps/whole/prepare", 2, "there is no model here"),
        (f"{TRAIN} {EXPORT} --tolerance nan", 2, "nan is no tolerance"),
        (f"{TRAIN} {EXPORT} --tolerance -1", 2, "Invalid value for '--tolerance'"),
        (f"{TRAIN} {EXPORT} --rows 0", 2, "Invalid value for '--rows'"),
        (f"{TRAIN}", 2, "Missing argument 'B'"),
        (f"{EXPORT} {EXPORT} --data tiny.yaml", 3, "the data holds features float32 [2]"),
        (f"{TRAIN} {EXPORT} --data nowhere.yaml", 2, "nowhere.yaml"),
        (f"{TRAIN} rows.csv", 2, "there is no model here"),
        (f"{EXPORT} truncated.onnx", 3, "truncated.onnx"),
    ],
)
def test_what_cannot_be_compared_is_refused(finished_lab: Lab, line: str, code: int, message: str) -> None:
    whole = (finished_lab.folder / EXPORT / "model.onnx").read_bytes()
    (finished_lab.folder / "truncated.onnx").write_bytes(whole[: len(whole) // 2])
    result = finished_lab(f"debug parity {line}")
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert "  next: " in result.err


def test_data_that_cannot_be_prepared_end_the_command(finished_lab: Lab) -> None:
    (finished_lab.folder / "images.csv").unlink()
    assert finished_lab(f"debug parity {EXPORT} {EXPORT}").code == 0
    assert finished_lab(f"debug parity {EXPORT} {EXPORT} --data whole.yaml").code == 3


@pytest.mark.parametrize(("step", "file"), [("train", "model.safetensors"), ("prepare", "validation/image.npy")])
def test_damage_is_found_before_anything_is_compared(finished_lab: Lab, step: str, file: str) -> None:
    path = finished_lab.artifact("whole", step) / file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    result = finished_lab(f"debug parity {TRAIN} {EXPORT}")
    assert (result.code, result.out) == (3, "")
    assert f"{step}: the file has other bytes than were written" in result.err


def test_data_that_are_gone_are_asked_for(finished_lab: Lab) -> None:
    shutil.rmtree(finished_lab.artifact("whole", "prepare"))
    result = finished_lab(f"debug parity {TRAIN} {EXPORT}")
    assert result.code == 2
    assert "`--data RECIPE`" in result.err


def test_a_network_of_the_users_own_runs_only_where_it_is_allowed(finished_lab: Lab) -> None:
    (finished_lab.folder / "nets.py").write_text(NETS)
    own = "export whole.yaml train.model={arch: 'nets:Net'} --allow-code --quiet --threads 1"
    result = finished_lab(own.replace("train.model={arch: 'nets:Net'}", "\"train.model={arch: 'nets:Net'}\""))
    assert result.code == 0, result.err
    refused = finished_lab(f"debug parity {TRAIN} {EXPORT}")
    assert refused.code == 2
    assert "--allow-code" in refused.err
    assert finished_lab(f"debug parity {TRAIN} {EXPORT} --allow-code").code == 0
