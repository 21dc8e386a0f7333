"""Whether two answers to the same rows are the same answer."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Running

FLOAT32: Final = 1e-4
"""Of the answer's largest number. Batches of another size add the same products in another order.

MiniLM in float32, 1 to 16 rows, with padding and without, one thread, onnxruntime 1.32: 3e-7 at the most; a small CNN:
the same bits. What makes one caller's answer depend on another's is far above: the scales of dynamic int8, which are
taken over the whole batch, moved MiniLM's by 0.2.
"""
HALF: Final = 2.0**-6
"""As above, where numbers are rounded to 8 (bfloat16) or 11 (float16) bits after every operation.

One rounding to bfloat16 is 2^-9 of a number; a sum in another order rounds to its neighbour, layer by layer.
"""


def tolerance_of(session: Running) -> float:
    """The largest difference, as `difference` counts it, between answers that pass for the same."""
    dtypes = {port.dtype for port in (*session.inputs, *session.outputs)}
    is_half = "bf16" in session.detail or dtypes & {"float16", "bfloat16"}
    return HALF if is_half else FLOAT32


def difference(expected: Arrays, found: Arrays) -> float:
    """The largest difference between numbers, over the largest number of that output: 0.0 for the same bits.

    Infinite for other shapes, dtypes, whole numbers, strings, or numbers that are not finite in other places.
    """
    if len(expected) != len(found):
        return float("inf")
    return max((_difference(one, other) for one, other in zip(expected, found, strict=True)), default=0.0)


def _difference(expected: npt.NDArray[Any], found: npt.NDArray[Any]) -> float:
    if expected.shape != found.shape or expected.dtype != found.dtype:
        return float("inf")
    is_real = expected.dtype.kind == "f"
    if np.array_equal(expected, found, equal_nan=is_real):
        return 0.0
    if not is_real:
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)) or not np.array_equal(
        expected[~finite], found[~finite], equal_nan=True
    ):
        return float("inf")
    wide, other = expected[finite].astype(np.float64), found[finite].astype(np.float64)
    largest = float(np.abs(wide).max())
    return float(np.abs(wide - other).max()) / largest if largest else float("inf")
