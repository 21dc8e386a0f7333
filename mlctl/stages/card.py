"""The model card: what a trained model is, for people and for model hubs."""

import json
from collections.abc import Sequence

from mlctl.data.description import DataDescription
from mlctl.engine.figures import Figure
from mlctl.models.files import ModelConfig, ModelInput

PIPELINES = {
    "image-classification": "image-classification",
    "regression": "tabular-regression",
    "language-modeling": "text-generation",
}


def model_card(config: ModelConfig, data: DataDescription, figures: Sequence[Figure]) -> str:
    """Markdown with the YAML front matter that model hubs read; it holds no timings, so its bytes repeat."""
    network = config.network.model_dump(mode="json")
    front = ["---", "library_name: mlctl", "tags:", f"- {config.network.arch}"]
    front += [f"pipeline_tag: {PIPELINES.get(config.task, config.task)}", "---"]
    rows = [f"| {figure.figure} | {figure.value:.6g} |" for figure in figures]
    counts, unit = (data.tokens, "tokens") if data.vocabulary else (data.rows, "rows")
    sizes = ", ".join(f"{count:,} {split}" for split, count in counts.items())
    lines = [
        *front,
        "",
        f"# {config.network.arch} for {config.task}",
        "",
        f"Trained on {sizes} {unit}. Load `model.safetensors` into the network that `config.json` describes.",
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
        *(_input_line(each) for each in config.inputs),
        f"- outputs: {config.outputs}" + (f", labels {', '.join(config.labels[:20])}" if config.labels else ""),
    ]
    return "\n".join(lines) + "\n"


def _input_line(taken: ModelInput) -> str:
    what = "tokens of `tokenizer.json`" if taken.holds_tokens else "raw values"
    return f"- input `{taken.name}`: {taken.dtype} {list(taken.shape)}, {what}"
