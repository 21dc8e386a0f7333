"""What a recipe can say about integers and halves in place of floats."""

from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from mlctl.recipe.base import Count, Flag, Names, NotNegative, Positive, Settings
from mlctl.recipe.optimization import AdamWSettings, OptimizerSettings
from mlctl.recipe.train import FitSettings
from mlctl.units import parse_size


def _a_size(text: str) -> str:
    if not parse_size(text):
        raise ValueError("nothing fits into no memory")
    return text


Size: TypeAlias = Annotated[str, AfterValidator(_a_size)]
"""Bytes, as 512MB or 2GiB."""


class CalibrationSettings(Settings):
    """How the ranges of activations are found, on rows of the train split."""

    samples: Count = 512
    """Rows to read."""

    method: Literal["minmax", "percentile", "entropy", "mse"] = "mse"
    """What makes a range out of what was seen; `mse` is the one whose rounding and clipping err least."""

    percentile: Annotated[float, Field(gt=50, le=100)] = 99.99
    """Share of values, in per cent, that `percentile` keeps inside the range."""

    max_memory: Size = Field(default="1GiB", json_schema_extra={"changes_bytes": False})
    """Wide graphs are calibrated in slices whose activations need no more than this."""


class ExcludeSettings(Settings):
    """What stays in float."""

    nodes: Names = ()
    """Node names, as globs; `mlctl inspect --nodes` lists them."""

    types: Names = ()
    """Operator types, such as Gemm."""


class QuantizeCommon(Settings):
    """What every method has."""

    from_: Annotated[str | None, Field(alias="from")] = None
    """The step whose graph is quantized; the nearest exported one above, unless this names another."""

    max_drop: NotNegative | None = None
    """Largest loss of the task's main metric on the validation split, in the metric's own unit."""

    exclude: ExcludeSettings = ExcludeSettings()
    """What stays in float."""

    prefer: Literal["size", "speed"] = "size"
    """`size` turns all that it can into integers.

    `speed` profiles the graph on this machine, and leaves nodes in float that lose time as integers. It is not the
    default, since then a timing decides what the model is.
    """


class StaticQuantization(QuantizeCommon):
    """Weights and activations become integers, with ranges from calibration."""

    method: Literal["static"]
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


class AutoQuantization(StaticQuantization):
    """The method that reaches fast kernels and keeps the answers: static or dynamic."""

    method: Literal["auto"] = "auto"  # type: ignore[assignment]
    """`dynamic` for graphs with attention or recurrent layers, which lose too much with fixed ranges, else `static`."""


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
    """How weights are rounded: `gptq` looks at rows of the train split, `hqq` needs 4 bits that are not symmetric."""

    @model_validator(mode="after")
    def _has_a_form(self) -> Self:
        if self.algorithm == "hqq" and (self.symmetric or self.bits != 4):
            raise ValueError("hqq moves the zero of every block, which needs bits: 4 and symmetric: false")
        return self


class HalfQuantization(QuantizeCommon):
    """Weights and arithmetic in float16; inputs and outputs stay float32."""

    method: Literal["float16"]
    """Half the bytes."""


class AwareQuantization(StaticQuantization, FitSettings):
    """Training goes on with the rounding in the loop."""

    method: Literal["qat"]  # type: ignore[assignment]
    """Quantization-aware training: what is learnt is the graph's own weights, rounded as the graph rounds them (Jacob
    et al. 2018)."""

    epochs: Count = 3
    """Passes over the train split, at most."""

    optimizer: OptimizerSettings = AdamWSettings(lr=1e-4)
    """How gradients become steps."""

    precision: Literal["float32"] = "float32"
    """Arithmetic of forward and backward; halves would round a second time."""

    tolerance: Positive = Field(default=0.01, json_schema_extra={"changes_bytes": False})
    """How far the graph's answers may be from those of what was trained: the root mean square of their differences on
    the validation split, as a share of the answers' own deviation. A value on the border of two integers can fall to
    either side."""


def _method(value: Any) -> str:
    method = value.get("method", "auto") if isinstance(value, dict) else getattr(value, "method", "auto")
    return str(method)


QuantizeSettings: TypeAlias = Annotated[
    Annotated[AutoQuantization, Tag("auto")]
    | Annotated[StaticQuantization, Tag("static")]
    | Annotated[DynamicQuantization, Tag("dynamic")]
    | Annotated[WeightOnlyQuantization, Tag("weight-only")]
    | Annotated[HalfQuantization, Tag("float16")]
    | Annotated[AwareQuantization, Tag("qat")],
    Discriminator(_method),
]
"""The one table of quantization methods."""
