"""What a recipe can say about integers and halves in place of floats."""

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag

from mlctl.recipe.base import Count, Flag, Names, NotNegative, Positive, Settings
from mlctl.recipe.train import FinetuneSettings
from mlctl.units import parse_size


def _a_size(text: str) -> str:
    parse_size(text)
    return text


Size: TypeAlias = Annotated[str, AfterValidator(_a_size)]
"""Bytes, as 512MB or 2GiB."""


class CalibrationSettings(Settings):
    """How the ranges of activations are found, on rows of the train split."""

    samples: Count = 512
    """Rows to read."""

    method: Literal["minmax", "percentile", "entropy", "mse"] = "entropy"
    """What makes a range out of what was seen."""

    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Share of values, in per cent, that `percentile` keeps inside the range."""

    max_memory: Size = "1GiB"
    """Wide graphs are calibrated in slices that need no more than this."""


class ExcludeSettings(Settings):
    """What stays in float."""

    nodes: Names = ()
    """Node names, as globs."""

    types: Names = ()
    """Operator types, such as Softmax."""


class QuantizeCommon(Settings):
    """What every method has."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose graph is quantized; the nearest exported one above, unless this names another."""

    max_drop: NotNegative | None = None
    """Largest loss of the task's main metric on the validation split, in the metric's own unit."""

    exclude: ExcludeSettings = ExcludeSettings()
    """What stays in float."""

    prefer: Literal["speed", "size"] = "speed"
    """`speed` leaves nodes in float that lose time as integers on this machine."""


class StaticQuantization(QuantizeCommon):
    """Weights and activations become integers, with ranges from calibration."""

    method: Literal["static"] = "static"
    """QDQ graph with fixed ranges."""

    calibration: CalibrationSettings = CalibrationSettings()
    """Where the ranges come from."""

    activations: Literal["auto", "uint8", "int8"] = "auto"
    """Type of activations; `auto` takes what this machine computes fast."""

    weights: Literal["auto", "int8", "uint8"] = "auto"
    """Type of weights; `auto` takes what this machine computes fast."""

    per_channel: Flag = True
    """One scale for every output channel of a weight."""

    symmetric: Flag = False
    """Activation ranges are centred on zero."""


class DynamicQuantization(QuantizeCommon):
    """Weights become integers; activations do so anew for every call."""

    method: Literal["dynamic"]
    """Ranges are taken from each call's own activations."""

    weights: Literal["auto", "int8", "uint8"] = "auto"
    """Type of weights; `auto` takes what this machine computes fast."""

    per_channel: Flag = True
    """One scale for every output channel of a weight."""


class WeightOnlyQuantization(QuantizeCommon):
    """Weights are stored as small integers; arithmetic stays in float."""

    method: Literal["weight-only"]
    """Blocks of weights share a scale."""

    bits: Literal[4, 8] = 4
    """Bits of one weight."""

    block_size: Literal[16, 32, 64, 128, 256] = 32
    """Weights that share a scale."""

    symmetric: Flag = True
    """No zero point beside the scale."""

    algorithm: Literal["round-to-nearest", "hqq", "gptq"] = "round-to-nearest"
    """How weights are rounded."""


class HalfQuantization(QuantizeCommon):
    """Weights and arithmetic in float16; inputs and outputs stay float32."""

    method: Literal["float16"]
    """Half the bytes."""


class AwareQuantization(StaticQuantization):
    """Training goes on with the rounding in the loop."""

    method: Literal["qat"]  # type: ignore[assignment]
    """Quantization-aware training."""

    finetune: FinetuneSettings = FinetuneSettings()
    """How training goes on."""

    learning_rate_scale: Positive = 0.1
    """Learning rate, as a share of the float training's."""


def _method(value: Any) -> str:
    method = value.get("method", "static") if isinstance(value, dict) else getattr(value, "method", "static")
    return str(method)


QuantizeSettings: TypeAlias = Annotated[
    Annotated[StaticQuantization, Tag("static")]
    | Annotated[DynamicQuantization, Tag("dynamic")]
    | Annotated[WeightOnlyQuantization, Tag("weight-only")]
    | Annotated[HalfQuantization, Tag("float16")]
    | Annotated[AwareQuantization, Tag("qat")],
    Discriminator(_method),
]
"""The one table of quantization methods."""
