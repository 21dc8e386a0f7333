"""The one table of ONNX's operators that torch can compute, with gradients."""

from collections.abc import Mapping
from typing import Final

import onnx

from mlctl.graphs.torch_elementwise import ELEMENTWISE
from mlctl.graphs.torch_indexing import INDEXING
from mlctl.graphs.torch_layers import LAYERS
from mlctl.graphs.torch_operator import Operator, no_gradient
from mlctl.graphs.torch_reductions import REDUCTIONS
from mlctl.graphs.torch_rounding import ROUNDING
from mlctl.graphs.torch_shaping import SHAPING
from mlctl.graphs.torch_windows import WINDOWS

OPERATORS: Final[Mapping[str, Operator]] = {
    **ELEMENTWISE,
    **INDEXING,
    **LAYERS,
    **REDUCTIONS,
    **ROUNDING,
    **SHAPING,
    **WINDOWS,
}
"""By the name in ONNX's own domain."""

_SAME_ELSEWHERE: Final = {"com.microsoft": frozenset({"DequantizeLinear", "Gelu", "QuantizeLinear"})}
"""Operators of other domains that are what ONNX's own of that name are."""


def operator_of(node: onnx.NodeProto) -> Operator:
    """What computes a node. Raises StepFailed, naming it, where there is nothing."""
    is_known = node.domain in ("", "ai.onnx") or node.op_type in _SAME_ELSEWHERE.get(node.domain, ())
    if not is_known or node.op_type not in OPERATORS:
        raise no_gradient(node)
    return OPERATORS[node.op_type]
