"""What tests of quantize share: a recipe that ends in quantized graphs, and what its steps left."""

import json
from pathlib import Path
from typing import Any

import onnx
from conftest import Lab

LINE = "quantize quantized.yaml --threads 1"


def with_steps(lab: Lab, *steps: str, base: str = "whole") -> Lab:
    """`quantized.yaml` is the recipe without its evaluation and with these steps after export."""
    text = (lab.folder / f"{base}.yaml").read_text().split("\neval:")[0]
    text = text if "\nexport" in text else f"{text}\nexport: {{}}\n"
    (lab.folder / "quantized.yaml").write_text("\n".join([text, *steps]) + "\n")
    return lab


def report(lab: Lab, step: str = "quantize") -> Any:
    """The step's `quantization.json`."""
    return json.loads((artifact(lab, step) / "quantization.json").read_text())


def artifact(lab: Lab, step: str = "quantize") -> Path:
    """The folder that the step of `quantized.yaml` came to."""
    lines = (lab.folder / "quantized.yaml").read_text().splitlines()
    return lab.artifact(next(line[6:] for line in lines if line.startswith("name: ")), step)


def operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path / "model.onnx").graph.node]


def figures(verdict: Any, step: str) -> dict[str, Any]:
    (found,) = (each for each in verdict["steps"] if each["step"] == step)
    return {each["figure"]: each["value"] for each in found["figures"]}
