"""What a recipe can say about measuring."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from mlctl.recipe.base import Count, PositiveFraction, Settings


class LatencySettings(Settings):
    """How long an answer takes."""

    batch: Annotated[tuple[Count, ...], Field(min_length=1)] = (1, 32)
    """Batch sizes to time."""

    rounds: Annotated[int, Field(ge=10, le=100_000)] = 50
    """Timed calls per model and batch size, the models taking turns."""

    threads: Annotated[int, Field(ge=1, le=1024)] = 1
    """Threads that one call may use."""

    @field_validator("batch")
    @classmethod
    def _has_no_size_twice(cls, sizes: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(sizes)) < len(sizes):
            raise ValueError("every batch size is timed once; one stands here twice")
        return sizes


class EvalSettings(Settings):
    """Every model that stands above is run on the same split."""

    data: str | None = None
    """The prepare step that measures; the nearest one above, unless this names another."""

    split: Literal["train", "validation", "test"] = "test"
    """The split that measures."""

    metrics: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Figures to compute; all of the task's own, unless listed."""

    runtime: Literal["onnxruntime", "openvino", "auto"] = "onnxruntime"
    """What runs the ONNX models. `openvino` needs that extra, and computes in bfloat16 where the machine is fast at it.

    `auto` takes the faster of the two for each model, where OpenVINO's answers are near enough. It is not the default,
    since then a timing decides which answers are judged.
    """

    latency: LatencySettings | None = LatencySettings()
    """How to time the models; null leaves it out."""

    confidence: PositiveFraction = 0.95
    """Level of every interval."""
