"""From what a recipe says about integers to the quantizer that writes them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlctl.compression.quantization.blocks import BlockForm
from mlctl.compression.quantization.calibration import Calibration, Resources, Rows, calibrate
from mlctl.compression.quantization.calibration_rows import calibration_rows
from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.exclusion import excluded_nodes
from mlctl.compression.quantization.half import HalfQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.quantizer import Quantizer
from mlctl.compression.quantization.scheme import Scheme, choose_scheme
from mlctl.compression.quantization.static import StaticOptions, StaticQuantizer, attends, tensors_to_calibrate
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.compression.quantization.weight_only import WeightOnlyQuantizer
from mlctl.data.prepared import PreparedData
from mlctl.engine.stage import Work
from mlctl.errors import StepFailed
from mlctl.events import Note
from mlctl.graphs.outline import weightless
from mlctl.graphs.saving import load_graph
from mlctl.recipe.quantize import (
    AutoQuantization,
    CalibrationSettings,
    QuantizeCommon,
    StaticQuantization,
    WeightOnlyQuantization,
)
from mlctl.runtime.answers import Arrays
from mlctl.runtime.machine import this_processor
from mlctl.units import parse_size, plural

if TYPE_CHECKING:
    from onnx import ModelProto

RECURRENT: Final = frozenset({"GRU", "LSTM", "RNN"})
FIXED_RANGES: Final = frozenset({"qat", "static"})
"""Methods whose activations have ranges from calibration."""

GPTQ_ROWS: Final = 128
GPTQ_BATCH: Final = 16


@dataclass
class Making:
    """What a quantizer is made from, and the calibration that was made for it on the way."""

    settings: QuantizeCommon
    scheme: Scheme
    seed: int
    graph: Path
    prepared: PreparedData
    work: Work
    calibration: Calibration | None = field(default=None)

    @cached_property
    def nodes(self) -> "ModelProto":
        """The graph without its weights, which only the quantizer itself needs."""
        return weightless(self.graph)

    @cached_property
    def model(self) -> "ModelProto":
        """The graph with all its data in memory."""
        return load_graph(self.graph)

    @cached_property
    def excluded(self) -> frozenset[str]:
        """Nodes that the recipe keeps in float. Raises StepFailed where it names one that is not there."""
        return excluded_nodes(self.nodes, self.settings.exclude.nodes, self.settings.exclude.types)

    @property
    def method(self) -> str:
        """The recipe's method, or for `auto` the one that the graph and its data ask for."""
        if isinstance(self.settings, AutoQuantization):
            recurs = any(node.op_type in RECURRENT for node in self.nodes.graph.node)
            is_of_text = self.prepared.description.vocabulary > 0
            return "dynamic" if is_of_text or recurs or attends(self.nodes) else "static"
        return str(getattr(self.settings, "method"))  # noqa: B009

    def quantizer(self) -> Quantizer:
        """The one that the method names. Raises StepFailed where the graph has nothing for it."""
        made: Quantizer = _QUANTIZERS[self.method](self)
        return made

    def known_slow(self, rows: int) -> "KnownSlow | None":
        """The graph as the scheme would make it, from a few rows' extremes, where the scheme is known to be slow."""
        if self.method in FIXED_RANGES and self.scheme.known_slow:
            ranges = _calibrated(self, RangeRule("minmax"), rows).ranges
            fast = replace(self.options, scheme=choose_scheme("auto", "auto", this_processor().instruction_sets))
            wished, instead = (
                StaticQuantizer(self.graph, ranges, options, self.excluded).quantized()
                for options in (self.options, fast)
            )
            return KnownSlow(self.scheme.known_slow, wished, instead)
        if isinstance(self.settings, WeightOnlyQuantization) and self.settings.algorithm == "hqq":
            quantizer = _weight_only(self)
            return KnownSlow(quantizer.known_slow, quantizer.quantized(), self.model) if quantizer.known_slow else None
        return None

    @property
    def options(self) -> StaticOptions:
        """How a static graph is laid out."""
        assert isinstance(self.settings, StaticQuantization)
        return StaticOptions(self.scheme, self.settings.per_channel, self.settings.symmetric)

    def rows(self, samples: int) -> Rows:
        """Rows of the train split, every class with its share."""
        train = self.prepared.split("train")
        classes = train.targets if self.prepared.description.labels else None
        return Rows(train.inputs, calibration_rows(len(train), samples, self.seed, classes))

    def batches(self) -> list[Arrays]:
        """Batches of every input of the graph, from the train split, for a quantizer that looks at activations."""
        rows = self.rows(GPTQ_ROWS)
        return [rows.between(start, min(start + GPTQ_BATCH, len(rows))) for start in range(0, len(rows), GPTQ_BATCH)]


@dataclass(frozen=True)
class KnownSlow:
    """A graph that is known to be slow on this machine, why, and what it is slow beside."""

    reason: str
    model: "ModelProto"
    instead: "ModelProto"


def _static(making: Making) -> Quantizer:
    assert isinstance(making.settings, StaticQuantization)
    wanted: CalibrationSettings = making.settings.calibration
    rule = RangeRule(wanted.method, wanted.percentile, making.settings.symmetric)
    making.calibration = _calibrated(making, rule, wanted.samples)
    return StaticQuantizer(making.graph, making.calibration.ranges, making.options, making.excluded)


def _calibrated(making: Making, rule: RangeRule, samples: int) -> Calibration:
    assert isinstance(making.settings, StaticQuantization)
    tensors = tensors_to_calibrate(making.nodes, making.options, making.excluded)
    if not tensors:
        raise _nothing_left()
    rows = making.rows(samples)
    found = calibrate(
        making.graph,
        tensors,
        rows,
        rule=rule,
        resources=Resources(
            threads=making.work.threads,
            max_memory=parse_size(making.settings.calibration.max_memory),
            scratch=making.work.folder,
            resume=making.work.resume,
        ),
        tell=making.work.tell,
    )
    slices = f"{found.slices} passes" if found.slices > 1 else "one pass"
    making.work.tell(Note(f"calibrated {plural(len(tensors), 'tensor')} on {plural(found.rows, 'row')} in {slices}"))
    return found


def _dynamic(making: Making) -> Quantizer:
    is_per_channel = bool(getattr(making.settings, "per_channel", True))
    form = WeightForm(making.scheme.weights, is_per_channel, making.scheme.has_reduced_range)
    return DynamicQuantizer(making.model, form, making.excluded)


def _weight_only(making: Making) -> WeightOnlyQuantizer:
    settings = making.settings
    assert isinstance(settings, WeightOnlyQuantization)
    return WeightOnlyQuantizer(
        making.model,
        BlockForm(settings.bits, settings.block_size, settings.symmetric),
        making.excluded,
        algorithm=settings.algorithm,
        rows=making.batches() if settings.algorithm == "gptq" else (),
        threads=making.work.threads,
    )


def _half(making: Making) -> Quantizer:
    quantizer = HalfQuantizer(making.model, making.excluded)
    if quantizer.out_of_range:
        making.work.choices["beyond float16"] = ", ".join(quantizer.out_of_range)
    return quantizer


_QUANTIZERS: Final[dict[str, Callable[[Making], Any]]] = {
    "static": _static,
    "qat": _static,
    "dynamic": _dynamic,
    "weight-only": _weight_only,
    "float16": _half,
}


def require_nodes(quantizer: Quantizer) -> None:
    """Raise StepFailed where nothing is left to quantize."""
    if not quantizer.nodes:
        raise _nothing_left()


def _nothing_left() -> StepFailed:
    return StepFailed(
        "no node of this graph is left to quantize: all are excluded, or have no form with integers",
        next="exclude less, or choose another `method`; `mlctl inspect --nodes` lists every node",
    )
