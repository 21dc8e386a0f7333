"""Float weights as 8-bit integers, symmetric around zero."""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.compression.quantization.scheme import IntegerType

Floats: TypeAlias = npt.NDArray[np.float32]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]

_ZERO = {"int8": 0, "uint8": 128}


@dataclass(frozen=True)
class WeightForm:
    """How weights become integers: as many steps below zero as above, with one scale per channel or one for all.

    `uint8` holds the numbers of `int8` plus 128. Both that and a reduced range, 7 bits of the 8, are for processors
    whose int8 products would saturate.
    """

    type: IntegerType = "int8"
    is_per_channel: bool = True
    has_reduced_range: bool = False

    @property
    def limit(self) -> int:
        """The largest step to either side of zero."""
        return 63 if self.has_reduced_range else 127


@dataclass(frozen=True)
class IntegerWeight:
    """`scales * (values - zero_points)` is the weight.

    `scales` is float32 with one entry per channel, or of shape []; so are the zero points, of the integers' type.
    """

    values: Integers
    scales: Floats
    zero_points: Integers


def integer_weight(weight: npt.NDArray[Any], form: WeightForm) -> IntegerWeight:
    """A float32 matrix [K, N] whose channels are its columns, rounded to the nearest step (ties to even).

    No element moves by more than half a step, and zero stays zero.
    """
    axis = 0 if form.is_per_channel else None
    largest = np.abs(weight).max(axis=axis).astype(np.float32)
    scales = np.asarray(largest / np.float32(form.limit), np.float32)
    divisors = np.where(scales > 0, scales, np.float32(1))
    steps = np.clip(np.rint(weight / divisors), -form.limit, form.limit)
    zero = _ZERO[form.type]
    values = (steps + zero).astype(form.type)
    return IntegerWeight(values, np.asarray(divisors), np.full(scales.shape, zero, form.type))
