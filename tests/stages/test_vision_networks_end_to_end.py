"""resnet and vit through the real command, from rows to integers."""

import json

import onnx
import pytest
from conftest import WHOLE, Lab

STEPS = """
train.resnet: {model: {arch: resnet, depth: 8, width: 4}, epochs: 1, batch_size: 16, precision: float32}
export.resnet: {from: train.resnet}
quantize.resnet: {method: auto, from: export.resnet}

train.vit:
  model: {arch: vit, patch: 2, width: 16, heads: 2, layers: 1}
  epochs: 1
  batch_size: 16
  precision: float32
export.vit: {from: train.vit}
quantize.vit: {method: auto, from: export.vit}
"""


def test_both_are_trained_exported_and_quantized_as_their_kind_asks_for(lab: Lab) -> None:
    head = WHOLE.split("\ntrain:")[0].replace("name: whole", "name: vision")
    (lab.folder / "vision.yaml").write_text(f"{head}\n{STEPS}")
    verdict = lab.json("run vision.yaml --threads 1")
    figures = {(step["step"], each["figure"]): each["value"] for step in verdict["steps"] for each in step["figures"]}
    integers = {"resnet": ("static", "QuantizeLinear"), "vit": ("dynamic", "MatMulInteger")}
    for name, (method, operator) in integers.items():
        # What export promises unless the recipe says otherwise.
        assert figures[f"export.{name}", "parity"] <= 1e-4
        folder = lab.artifact("vision", f"quantize.{name}")
        assert json.loads((folder / "quantization.json").read_text())["method"] == method
        graph = onnx.load(folder / "model.onnx").graph
        assert (
            sum(node.op_type == operator for node in graph.node) >= figures[f"quantize.{name}", "quantized_nodes"] > 4
        )
        sizes = graph.input[0].type.tensor_type.shape.dim
        assert (sizes[0].dim_param, *(each.dim_value for each in sizes[1:])) == ("batch", 1, 4, 4)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("{arch: resnet, depth: 18}", "halves images 3 times and needs 5x5 pixels, the data has 4x4"),
        ("{arch: vit, patch: 3}", "patches of 3x3 pixels do not fill images of 4x4"),
    ],
)
def test_images_that_do_not_fit_are_refused_by_the_plan_with_what_to_change(lab: Lab, model: str, message: str) -> None:
    result = lab(f"train whole.yaml --threads 1 'train.model={model}'")
    assert result.code == 2, result.err
    assert message in result.err
    assert "; choose" in result.err
    assert not (lab.store / "steps").exists()
