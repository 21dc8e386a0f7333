"""export and quantize of language models: the decoder beside the graph, measured and made of the same integers."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from conftest import Lab
from language_labs import LANGUAGE

from mlctl.graphs.decoding import decoder_difference
from mlctl.graphs.inspection import inspect
from mlctl.runtime.session import OnnxSession

LSTM = "'train.model={arch: lstm, embedding: 16, hidden: 16, tied: true}'"
GRU = "'train.model={arch: gru, embedding: 16, hidden: 16}'"


def figures(verdict: Any, step: str) -> dict[str, float]:
    (found,) = (each for each in verdict["steps"] if each["step"] == step)
    return {each["figure"]: each["value"] for each in found["figures"] if each["model"] is None}


def choices(artifact: Path) -> dict[str, str]:
    made: dict[str, str] = json.loads((artifact / "manifest.json").read_text())["made"]["choices"]
    return made


def operators(path: Path) -> dict[str, int]:
    return dict(inspect(path).operators)


def own_difference(artifact: Path) -> float:
    """How far the artifact's decoder is from its own graph over whole texts."""
    whole, steps = (OnnxSession(artifact / name, threads=1) for name in ("model.onnx", "decoder.onnx"))
    return decoder_difference(whole, steps, np.arange(48).reshape(3, 16) % 18)


def test_the_decoder_is_measured_and_judged(language_labs: Lab) -> None:
    verdict = language_labs.json("export language.yaml")
    artifact = language_labs.artifact("language", "export")
    found = figures(verdict, "export")
    # Two layers in float32 on both sides: some roundings of 6e-8 of numbers near 1.
    assert 0 < found["decoder_parity"] < 1e-5
    assert found["decoder_bytes"] == (artifact / "decoder.onnx").stat().st_size
    assert [gate["text"] for gate in verdict["gates"]] == ["export.parity <= 0.0001", "export.decoder_parity <= 0.0001"]
    properties = {each.key: each.value for each in onnx.load(artifact / "decoder.onnx").metadata_props}
    assert properties == {each.key: each.value for each in onnx.load(artifact / "model.onnx").metadata_props}


def test_a_decoder_that_errs_more_than_the_tolerance_fails_its_gate(language_lab: Lab) -> None:
    result = language_lab("export language.yaml export.tolerance=1e-9 --threads 1")
    assert result.code == 21
    assert "failed  export.decoder_parity <= 1e-09" in result.out


@pytest.mark.parametrize(("recipe", "code"), [("language", 0), ("whole", 2)])
def test_gates_may_name_the_decoder_where_there_is_one(
    language_labs: Lab, finished_labs: Lab, recipe: str, code: int, tmp_path: Path
) -> None:
    lab = language_labs if recipe == "language" else finished_labs
    text = (lab.folder / f"{recipe}.yaml").read_text().partition("\ngates:")[0]
    path = tmp_path / "gated.yaml"
    path.write_text(f"{text}\ngates: ['export.decoder_bytes <= 1000000']\n")
    for source in ("text.txt", "images.csv"):
        (tmp_path / source).write_text("a,b\n")
    result = lab(f"plan {path}")
    assert result.code == code, result.err
    assert ("no step measures export.decoder_bytes" in result.err) == (code == 2)


def test_steps_made_again_have_the_same_bytes(language_lab: Lab) -> None:
    before = language_lab.bytes_of()
    forced = " ".join(f"--force {step}" for step in ("export", "quantize", "quantize.fixed"))
    result = language_lab(f"quantize language.yaml {forced} --threads 1")
    assert result.code == 0, result.err
    assert "other bytes" not in result.err
    assert language_lab.bytes_of() == before


def test_dynamic_integers_reach_the_decoder(language_labs: Lab) -> None:
    artifact = language_labs.artifact("language", "quantize")
    whole, steps = operators(artifact / "model.onnx"), operators(artifact / "decoder.onnx")
    # One layer: queries, keys and values in one product, the output, two dense layers, and the tied head.
    assert whole["MatMulInteger"] == steps["MatMulInteger"] == 5
    assert whole["MatMul"] == steps["MatMul"] == 2
    said = choices(artifact)["decoder"]
    assert said == f"logits of single tokens are within {float(said.split()[6]):.3g} of those of whole texts"


def test_fixed_ranges_leave_the_decoder_out_and_say_so(language_labs: Lab) -> None:
    artifact = language_labs.artifact("language", "quantize.fixed")
    assert not (artifact / "decoder.onnx").exists()
    assert choices(artifact)["decoder"].startswith("the decoder is left out: ")
    assert operators(artifact / "model.onnx")["QuantizeLinear"] == 5


def test_what_is_excluded_stays_float_in_both(language_lab: Lab) -> None:
    exclude = "'quantize.exclude.nodes=[node_linear_2]'"
    result = language_lab(f"quantize language.yaml {exclude} --threads 1")
    assert result.code == 0, result.err
    artifact = language_lab.artifact("language", "quantize")
    for name in ("model.onnx", "decoder.onnx"):
        found = operators(artifact / name)
        assert (found["MatMulInteger"], found["MatMul"]) == (4, 3)
        (kept,) = (node for node in onnx.load(artifact / name).graph.node if "linear_2" in node.output)
        assert kept.op_type == "MatMul"


@pytest.mark.parametrize(
    ("settings", "operator", "tolerance"),
    [
        ("{method: weight-only}", "com.microsoft::MatMulNBits", 1e-5),
        ("{method: weight-only, algorithm: gptq}", "com.microsoft::MatMulNBits", 1e-5),
        # Half precision has 11 bits: logits near 10 are off by some hundredths where sums are in another order.
        ("{method: float16}", "Cast", 5e-2),
    ],
)
def test_other_methods_make_a_decoder_of_the_same_numbers(
    language_lab: Lab, settings: str, operator: str, tolerance: float
) -> None:
    result = language_lab(f"quantize language.yaml 'quantize={settings}' --threads 1")
    assert result.code == 0, result.err
    artifact = language_lab.artifact("language", "quantize")
    assert operators(artifact / "decoder.onnx")[operator] >= 5
    assert own_difference(artifact) < tolerance
    assert language_lab("generate language.yaml --step quantize --tokens 30 --threads 1").code == 0


def test_recurrent_layers_of_memory_cells_become_integers(language_lab: Lab) -> None:
    result = language_lab(f"quantize language.yaml {LSTM} --threads 1")
    assert result.code == 0, result.err
    artifact = language_lab.artifact("language", "quantize")
    for name in ("model.onnx", "decoder.onnx"):
        found = operators(artifact / name)
        assert (found["com.microsoft::DynamicQuantizeLSTM"], found["MatMulInteger"]) == (2, 1)
        assert {"LSTM", "MatMul"}.isdisjoint(found)


def test_gated_units_stay_float_but_for_the_head(language_lab: Lab) -> None:
    result = language_lab(f"quantize language.yaml {GRU} --threads 1")
    assert result.code == 0, result.err
    artifact = language_lab.artifact("language", "quantize")
    for name in ("model.onnx", "decoder.onnx"):
        found = operators(artifact / name)
        assert (found["GRU"], found["MatMulInteger"]) == (2, 1)


def test_large_weights_are_stored_once_for_both_graphs(language_lab: Lab) -> None:
    result = language_lab("quantize language.yaml export.external_data_above=1kB --threads 1")
    assert result.code == 0, result.err
    artifact = language_lab.artifact("language", "export")
    assert {each.name for each in artifact.glob("*.onnx*")} == {"decoder.onnx", "model.onnx", "model.onnx.data"}
    assert (artifact / "decoder.onnx").stat().st_size < (artifact / "model.onnx.data").stat().st_size
    (language_lab.folder / "language.yaml").write_text(
        LANGUAGE.replace("export: {}", "export: {external_data_above: 1kB}")
    )
    assert language_lab("verify language.yaml").code == 0
    # What is made of such a graph holds everything itself.
    assert own_difference(language_lab.artifact("language", "quantize")) < 1


def test_a_network_of_ones_own_generates_without_a_decoder(language_lab: Lab) -> None:
    (language_lab.folder / "nets.py").write_text(NETS)
    own = "language.yaml \"train.model={arch: 'nets:Net'}\" --allow-code --threads 1"
    assert language_lab(f"export {own}").code == 0
    assert not (language_lab.artifact("language", "export") / "decoder.onnx").exists()
    texts = [language_lab(f"generate {own} --step {step} --tokens 30 --temperature 0") for step in ("train", "export")]
    assert [each.code for each in texts] == [0, 0]
    assert texts[0].out == texts[1].out
    assert all("this model reads its window again for every token" in each.err for each in texts)
    refused = language_lab(f"generate {own} --step train".replace("--allow-code", ""))
    assert (refused.code, refused.out) == (2, "")
    assert "--allow-code" in refused.err


NETS = """
from torch import nn

class Net(nn.Module):
    def __init__(self, input_shapes, outputs):
        super().__init__()
        self.embedding = nn.Embedding(outputs, 8)
        self.body = nn.GRU(8, 8, batch_first=True)
        self.head = nn.Linear(8, outputs)

    def forward(self, tokens):
        return self.head(self.body(self.embedding(tokens))[0])
"""
