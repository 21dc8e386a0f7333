"""Weights and activations as 8-bit integers with fixed ranges: a graph of QuantizeLinear and DequantizeLinear pairs."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import QuantType

from mlctl.compression.quantization.float_readers import shared_weights, spare_floats
from mlctl.compression.quantization.integer_flow import (
    FLATTENED,
    byte_inputs,
    global_means,
    pool_means,
    relu_first,
    take_bytes,
)
from mlctl.compression.quantization.scheme import Scheme
from mlctl.compression.quantization.thresholds import Range
from mlctl.compression.quantization.tied_heads import store_turned
from mlctl.graphs.ordering import sort_nodes
from mlctl.graphs.outline import weightless
from mlctl.graphs.saving import load_graph

WEIGHTED: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
"""Operators that multiply by a stored weight: where integers save time."""

MERGING: Final = frozenset({"Add", "Concat", "GlobalAveragePool"})
"""Operators with 8-bit kernels of their own, which keep integers flowing from one weighted operator to the next."""

PASSING: Final = frozenset(
    {
        "AveragePool",
        "Clip",
        "Flatten",
        "MaxPool",
        "Pad",
        "Relu",
        "Reshape",
        "Resize",
        "Slice",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that take integers where what they read is integers already."""

FLOAT_OUTPUTS: Final = ("Gemm", "MatMul")
"""Operators whose sums are not rounded to 8 bits again: logits and attention need them, and the next operator that
wants integers rounds for itself."""

_TYPES: Final = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}
_INFERRED: Final = ("onnx.infer", "onnxruntime.quant")
"""What tells ONNX Runtime's quantizer that shapes are there; else it writes files to find them."""


@dataclass(frozen=True)
class StaticOptions:
    """How integers are laid out: the scheme, one scale for every output channel of a weight or one for all of it, and
    whether activation ranges are centred on zero."""

    scheme: Scheme
    is_per_channel: bool = True
    is_symmetric: bool = False


_RENAMED: Final = "_QuantizeLinear_Input"
"""What ONNX Runtime's quantizer appends to the name of a graph's output that it rounds."""

_SMALL: Final = 1024
"""Bytes of an initializer that may be a shape rather than a weight."""


class StaticQuantizer:
    """A float graph with fixed ranges for its activations, written by ONNX Runtime's own quantizer."""

    def __init__(
        self,
        source: Path | onnx.ModelProto,
        ranges: Mapping[str, Range],
        options: StaticOptions,
        excluded: frozenset[str] = frozenset(),
    ) -> None:
        """Every node of the graph has a name; `ranges` has those of `tensors_to_calibrate`.

        A graph at a path is read anew each time that one is written, so that memory holds it once; one in memory has
        all its data and is left as it is.
        """
        self._source = source
        self._ranges = ranges
        self._options = options
        self._plan = _Plan.of(_with_shapes(weightless(source) if isinstance(source, Path) else source), excluded)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that compute with integers, in the graph's order; those that only pass them on follow."""
        return self._plan.computing

    def quantized(self, kept: frozenset[str] = frozenset()) -> onnx.ModelProto:
        """The graph as QDQ pairs around every node but those in `kept`."""
        return _written(self._copy(), self._ranges, self._options, self._plan.without(kept))

    def _copy(self) -> onnx.ModelProto:
        if isinstance(self._source, Path):
            return load_graph(self._source)
        copy = onnx.ModelProto()
        copy.CopyFrom(self._source)
        return copy


def tensors_to_calibrate(
    model: onnx.ModelProto, options: StaticOptions, excluded: frozenset[str] = frozenset()
) -> tuple[str, ...]:
    """The activations that will become integers, in the graph's order, as the quantizer itself says in a rehearsal."""
    produced = [name for node in model.graph.node for name in node.output]
    named = [port.name for port in model.graph.input] + produced
    plan = _Plan.of(_with_shapes(model), excluded)
    light = _without_weights(model)
    aliases = _let_flow(light, plan)
    ranges = dict.fromkeys([*named, *aliases], Range(-1.0, 1.0))
    rehearsed = _quantizer(_outline(light), ranges, options, plan).quantize_model()
    pairs = {node.input[0].removesuffix(_RENAMED) for node in rehearsed.graph.node if node.op_type == "QuantizeLinear"}
    known = {raw.tensor for raw in byte_inputs(model)} if _takes_bytes(options) else set[str]()
    wanted = {aliases.get(name, name) for name in pairs} - known
    return tuple(name for name in named if name in wanted)


@dataclass(frozen=True)
class _Plan:
    """The nodes that become integers: those that compute, and those that pass integers on."""

    computing: tuple[str, ...]
    passing: tuple[str, ...]
    means: tuple[str, ...]

    @classmethod
    def of(cls, model: onnx.ModelProto, excluded: Collection[str]) -> "_Plan":
        """`model` holds the shapes of its tensors."""
        weights = {each.name for each in model.graph.initializer}
        has_attention = attends(model)
        # In attention only the multiplications by weights gain; masks and scores have ranges that 256 levels destroy.
        merging = frozenset[str]() if has_attention else MERGING
        means = () if has_attention else tuple(name for name in global_means(model) if name not in excluded)
        computing, passing = [], []
        for node in model.graph.node:
            if node.name in excluded or node.domain not in ("", "ai.onnx"):
                continue
            is_weighted = node.op_type in WEIGHTED and node.input[1] in weights
            if is_weighted or node.op_type in merging or node.name in means:
                computing.append(node.name)
            elif node.op_type in PASSING and not has_attention:
                passing.append(node.name)
        # What flattens a mean passes it on.
        return cls(tuple(computing), (*passing, *(f"{name}{FLATTENED}" for name in means)), means)

    def without(self, kept: Collection[str]) -> "_Plan":
        computing, means = (tuple(name for name in names if name not in kept) for names in (self.computing, self.means))
        return _Plan(computing, self.passing, means)


def attends(model: onnx.ModelProto) -> bool:
    """Whether the graph has attention: a node of its own, or a product of two activations."""
    if any("Attention" in node.op_type for node in model.graph.node):
        return True
    weights = {each.name for each in model.graph.initializer}
    constants = {node.output[0] for node in model.graph.node if node.op_type == "Constant"}
    stored = weights | constants
    return any(node.op_type == "MatMul" and not stored.intersection(node.input) for node in model.graph.node)


def _written(
    model: onnx.ModelProto, ranges: Mapping[str, Range], options: StaticOptions, plan: _Plan
) -> onnx.ModelProto:
    """`model` itself, with integers."""
    if not plan.computing:
        return model
    store_turned(model)
    properties = [(each.key, each.value) for each in model.metadata_props]
    producer, version = model.producer_name, model.producer_version
    aliases = _let_flow(model, plan)
    raws = byte_inputs(model) if _takes_bytes(options) else ()
    known = {**ranges, **{raw.tensor: raw.range for raw in raws}}
    known |= {new: known[old] for new, old in aliases.items() if old in known}
    integers = frozenset((*plan.computing, *plan.passing))
    shared, floats = shared_weights(model, integers), {node.name for node in model.graph.node} - integers
    written: onnx.ModelProto = _quantizer(model, known, options, plan).quantize_model()
    spare_floats(written, floats, shared, FLOAT_OUTPUTS)
    for raw in raws:
        take_bytes(written, raw)
    sort_nodes(written.graph)
    written.producer_name, written.producer_version = producer, version
    del written.metadata_props[:]
    onnx.helper.set_model_props(written, dict(properties))
    return written


def _takes_bytes(options: StaticOptions) -> bool:
    return options.scheme.activations == "uint8" and not options.is_symmetric


def _let_flow(model: onnx.ModelProto, plan: _Plan) -> dict[str, str]:
    """Rewrite `model` in place so that integers flow, with all its shapes; new tensors and those with their range."""
    aliases = {**relu_first(model), **pool_means(model, plan.means)}
    shapes = _with_shapes(model).graph.value_info
    del model.graph.value_info[:]
    model.graph.value_info.extend(shapes)
    return aliases


def _quantizer(
    model: onnx.ModelProto, ranges: Mapping[str, Range], options: StaticOptions, plan: _Plan
) -> QDQQuantizer:
    model.metadata_props.add(key=_INFERRED[0], value=_INFERRED[1])
    scheme = options.scheme
    return QDQQuantizer(
        model,
        per_channel=options.is_per_channel,
        reduce_range=scheme.has_reduced_range,
        weight_qType=_TYPES[scheme.weights],
        activation_qType=_TYPES[scheme.activations],
        tensors_range={name: _tensor_data(each) for name, each in _completed(model, ranges).items()},
        nodes_to_quantize=[*plan.computing, *plan.passing],
        nodes_to_exclude=[],
        op_types_to_quantize=sorted(WEIGHTED | MERGING | PASSING),
        extra_options={
            "ActivationSymmetric": options.is_symmetric,
            "OpTypesToExcludeOutputQuantization": list(FLOAT_OUTPUTS),
        },
    )


def _with_shapes(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with every shape that follows, and without its large weights, which shapes do not depend on."""
    return onnx.shape_inference.infer_shapes(_without_weights(model))


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy of `model` with the names, types and shapes of its large weights alone, turned ones as they are used."""
    light = onnx.ModelProto()
    for field, value in model.ListFields():
        if field.name != "graph":
            _set(light, field.name, value)
    for field, value in model.graph.ListFields():
        if field.name != "initializer":
            _set(light.graph, field.name, value)
    for weight in model.graph.initializer:
        if weight.ByteSize() <= _SMALL:
            light.graph.initializer.add().CopyFrom(weight)
        else:
            light.graph.initializer.add(name=weight.name, data_type=weight.data_type, dims=weight.dims)
    store_turned(light)
    return light


def _set(message: Any, field: str, value: Any) -> None:
    if isinstance(value, int | float | str | bytes):
        setattr(message, field, value)
    elif hasattr(value, "CopyFrom"):
        getattr(message, field).CopyFrom(value)
    else:
        getattr(message, field).extend(value)


def _outline(light: onnx.ModelProto) -> onnx.ModelProto:
    """`light` with a single zero for every weight that has no data: a rehearsal looks at ranks, not at numbers."""
    for weight in light.graph.initializer:
        if not weight.HasField("raw_data") and weight.ByteSize() <= _SMALL and math.prod(weight.dims) > _SMALL // 8:
            zero = np.zeros((1,) * len(weight.dims), onnx.helper.tensor_dtype_to_np_dtype(weight.data_type))
            weight.CopyFrom(onnx.numpy_helper.from_array(zero, weight.name))
    return light


def _completed(model: onnx.ModelProto, ranges: Mapping[str, Range]) -> Mapping[str, Range]:
    """With the inputs of ReLUs and the like, which take the place of their outputs and need no range of their own."""
    before = {
        node.input[0]: ranges[node.output[0]]
        for node in model.graph.node
        if node.op_type in ("Clip", "Relu") and node.output[0] in ranges
    }
    return {**before, **ranges}


def _tensor_data(found: Range) -> TensorData:
    return TensorData(lowest=np.float32(found.low), highest=np.float32(found.high))
