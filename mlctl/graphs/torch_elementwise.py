"""ONNX's operators that compute number by number, in torch."""

from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

import torch
from onnx import TensorProto
from torch import Tensor
from torch.nn import functional

from mlctl.graphs.torch_operator import Attributes, Operation, Operator, plain

_DTYPES: Final[dict[int, torch.dtype]] = {
    TensorProto.FLOAT: torch.float32,
    TensorProto.DOUBLE: torch.float64,
    TensorProto.FLOAT16: torch.float16,
    TensorProto.BFLOAT16: torch.bfloat16,
    TensorProto.BOOL: torch.bool,
    TensorProto.INT8: torch.int8,
    TensorProto.INT16: torch.int16,
    TensorProto.INT32: torch.int32,
    TensorProto.INT64: torch.int64,
    TensorProto.UINT8: torch.uint8,
}


def _divided(left: Tensor, right: Tensor) -> Tensor:
    """Whole numbers are cut off towards zero."""
    return left / right if left.is_floating_point() else torch.div(left, right, rounding_mode="trunc")


def _power(base: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(base, exponent).to(base.dtype)


def _modulo(attributes: Attributes) -> Operation:
    return torch.fmod if attributes.whole("fmod", 0) else torch.remainder


def _clip(attributes: Attributes) -> Operation:
    if attributes.version < 11:
        low, high = attributes.real("min", -3.4028234663852886e38), attributes.real("max", 3.4028234663852886e38)
        return lambda values: values.clamp(low, high)

    def clipped(values: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
        return values if low is None and high is None else torch.clamp(values, low, high)

    return clipped


def _cast(attributes: Attributes) -> Operation:
    dtype = _DTYPES.get(attributes.whole("to", TensorProto.FLOAT))
    attributes.require(dtype is not None, "a type that torch does not have")
    return lambda values: values.to(dtype)


def _gelu(attributes: Attributes) -> Operation:
    approximate = attributes.text("approximate", "none")
    return lambda values: functional.gelu(values, approximate=approximate)


def _with_reals(function: Callable[..., Tensor], **defaults: float) -> Operator:
    """An activation whose attributes follow the values, in the order of `defaults`."""

    def make(attributes: Attributes) -> Operation:
        given = [attributes.real(name, default) for name, default in defaults.items()]
        return lambda values: function(values, *given)

    return Operator(make)


def _hard_sigmoid(values: Tensor, alpha: float, beta: float) -> Tensor:
    return (values * alpha + beta).clamp(0, 1)


def _swish(values: Tensor, alpha: float) -> Tensor:
    return values * torch.sigmoid(alpha * values)


def _thresholded(values: Tensor, alpha: float) -> Tensor:
    return torch.where(values > alpha, values, 0.0)


def _selu(values: Tensor, alpha: float, gamma: float) -> Tensor:
    return gamma * torch.where(values > 0, values, alpha * torch.expm1(values.clamp(max=0)))


def _shifted_slope(values: Tensor, slope: Tensor) -> Tensor:
    """PRelu, whose slopes are broadcast as any other operand's."""
    return torch.where(values < 0, slope * values, values)


def _folded(function: Callable[[Any, Any], Any]) -> Operator:
    return plain(lambda *each: reduce(function, each))


def _mean(*each: Tensor) -> Tensor:
    total: Tensor = reduce(torch.add, each)
    return total / len(each)


ELEMENTWISE: Final[Mapping[str, Operator]] = {
    "Abs": plain(torch.abs),
    "Acos": plain(torch.acos),
    "Acosh": plain(torch.acosh),
    "Add": plain(torch.add),
    "And": plain(torch.logical_and),
    "Asin": plain(torch.asin),
    "Asinh": plain(torch.asinh),
    "Atan": plain(torch.atan),
    "Atanh": plain(torch.atanh),
    "Cast": Operator(_cast),
    "CastLike": plain(lambda values, like: values.to(like.dtype)),
    "Ceil": plain(torch.ceil),
    "Celu": _with_reals(functional.celu, alpha=1.0),
    "Clip": Operator(_clip),
    "Cos": plain(torch.cos),
    "Cosh": plain(torch.cosh),
    "Div": plain(_divided),
    "Elu": _with_reals(functional.elu, alpha=1.0),
    "Equal": plain(torch.eq),
    "Erf": plain(torch.erf),
    "Exp": plain(torch.exp),
    "Floor": plain(torch.floor),
    "Gelu": Operator(_gelu),
    "Greater": plain(torch.gt),
    "GreaterOrEqual": plain(torch.ge),
    "HardSigmoid": _with_reals(_hard_sigmoid, alpha=0.2, beta=0.5),
    "HardSwish": plain(functional.hardswish),
    "IsNaN": plain(torch.isnan),
    "LeakyRelu": _with_reals(functional.leaky_relu, alpha=0.01),
    "Less": plain(torch.lt),
    "LessOrEqual": plain(torch.le),
    "Log": plain(torch.log),
    "Max": _folded(torch.maximum),
    "Mean": plain(_mean),
    "Min": _folded(torch.minimum),
    "Mish": plain(functional.mish),
    "Mod": Operator(_modulo),
    "Mul": plain(torch.mul),
    "Neg": plain(torch.neg),
    "Not": plain(torch.logical_not),
    "Or": plain(torch.logical_or),
    "PRelu": plain(_shifted_slope),
    "Pow": plain(_power),
    "Reciprocal": plain(torch.reciprocal),
    "Relu": plain(torch.relu),
    "Round": plain(torch.round),
    "Selu": _with_reals(_selu, alpha=1.6732632423543772, gamma=1.0507009873554805),
    "Sigmoid": plain(torch.sigmoid),
    "Sign": plain(torch.sign),
    "Sin": plain(torch.sin),
    "Sinh": plain(torch.sinh),
    "Softplus": plain(functional.softplus),
    "Softsign": plain(functional.softsign),
    "Sqrt": plain(torch.sqrt),
    "Sub": plain(torch.sub),
    "Sum": _folded(torch.add),
    "Swish": _with_reals(_swish, alpha=1.0),
    "Tan": plain(torch.tan),
    "Tanh": plain(torch.tanh),
    "ThresholdedRelu": _with_reals(_thresholded, alpha=1.0),
    "Where": plain(torch.where),
    "Xor": plain(torch.logical_xor),
}
"""By the operator's name."""
