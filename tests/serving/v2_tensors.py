"""What the real client sends, for it and for the tests that look at what came back."""

from typing import Any

import numpy as np

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
DTYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64",
)  # fmt: skip
TEXTS = np.array([["one", "", "zwölf"], ["\N{SNOWMAN}", "a\0b", "x" * 300]], object)


def tensors() -> dict[str, Any]:
    """Values at the edges of each dtype, by name of the echo's inputs."""
    found: dict[str, Any] = {}
    for dtype in DTYPES:
        kind = np.dtype(dtype)
        if kind.kind == "b":
            values: list[Any] = [False, True, True]
        else:
            limits = np.finfo(dtype) if kind.kind == "f" else np.iinfo(dtype)
            values = [limits.min, limits.max, 1]
        found[f"in_{dtype}"] = np.array([values], dtype)
    return found
