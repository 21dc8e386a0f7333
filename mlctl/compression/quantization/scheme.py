"""Which integers this machine computes fast. Standard library only: the plan asks before anything heavy may load."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, TypeAlias

IntegerType: TypeAlias = Literal["uint8", "int8"]
Wish: TypeAlias = Literal["auto", "uint8", "int8"]

_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Instructions that add four products of bytes into 32 bits without an intermediate sum that could saturate."""

_AVX = frozenset({"avx2", "avx512f"})


@dataclass(frozen=True)
class Scheme:
    """Types of activations and weights, whether weights use seven bits only, and why it is so."""

    activations: IntegerType
    weights: IntegerType
    has_reduced_range: bool
    why: str

    def __str__(self) -> str:
        return f"{self.activations} activations, {self.weights} weights; {self.why}"

    @property
    def known_slow(self) -> str | None:
        """Why ONNX Runtime's processor kernels are known to be slow on such types; None where they are not."""
        if self.activations == "int8":
            return "activations in int8: ONNX Runtime's fast kernels take uint8"
        if self.weights == "uint8":
            return "weights in uint8: ONNX Runtime's fast kernels take int8"
        return None


def choose_scheme(activations: Wish, weights: Wish, instruction_sets: Collection[str]) -> Scheme:
    """The types that are wished for, and for `auto` those that a processor with `instruction_sets` computes fast.

    Unsigned activations and signed weights are the one pair for which ONNX Runtime has fast kernels on x86. Without
    VNNI or AMX those kernels add two products in 16 bits, which saturate; weights of seven bits cannot.
    """
    chosen: IntegerType = "uint8" if activations == "auto" else activations
    chosen_weights: IntegerType = "int8" if weights == "auto" else weights
    found = sorted(_DOT_PRODUCTS.intersection(instruction_sets))
    saturates = not found and bool(_AVX.intersection(instruction_sets))
    if found:
        why = f"{' '.join(found)}: sums of 32 bits, weights may use all eight bits"
    elif saturates:
        why = "no VNNI or AMX: sums of 16 bits would saturate, so weights use seven bits"
    else:
        why = "no x86 vectors: nothing to saturate"
    return Scheme(chosen, chosen_weights, saturates, why)
