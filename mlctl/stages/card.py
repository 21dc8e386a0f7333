"""The model card: what a trained model is, for people and for model hubs."""

import json
from collections.abc import Sequence

from mlctl.data.description import DataDescription
from mlctl.engine.figures import Figure
from mlctl.models.files import ModelConfig

PIPELINES = {"image-classification": "image-classification", "regression": "tabular-regression"}


def model_card(config: ModelConfig, data: DataDescription, figures: Sequence[Figure]) -> str:
    """Markdown with the YAML front matter that model hubs read; it holds no timings, so its bytes repeat."""
    network = config.network.model_dump(mode="json")
    front = ["---", "library_name: mlctl", "tags:", f"- {config.network.arch}"]
    front += [f"pipeline_tag: {PIPELINES.get(config.task, config.task)}", "---"]
    rows = [f"| {figure.figure} | {figure.value:.6g} |" for figure in figures]
    sizes = ", ".join(f"{count:,} {split}" for split, count in data.rows.items())
    lines = [
        *front,
        "",
        f"# {config.network.arch} for {config.task}",
        "",
        f"Trained on {sizes} rows. Load `model.safetensors` into the network that `config.json` describes.",
        "",
        "| figure | value |",
        "| --- | --- |",
        *rows,
        "",
        "## Network",
        "",
        "```json",
        json.dumps(network, indent=2, ensure_ascii=False),
        "```",
        "",
        "## Input and output",
        "",
        *(f"- input `{each.name}`: {each.dtype} {list(each.shape)}, raw values" for each in config.inputs),
        f"- outputs: {config.outputs}" + (f", labels {', '.join(config.labels[:20])}" if config.labels else ""),
    ]
    return "\n".join(lines) + "\n"
