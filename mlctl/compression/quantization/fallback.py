"""Accuracy first: the fewest nodes go back to float that bring the loss under its bound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, isnan

import onnx

from mlctl.compression.quantization.quantizer import Quantizer
from mlctl.compression.quantization.sensitivity import Sensitivity
from mlctl.events import Note, Tell, silent


@dataclass(frozen=True)
class Kept:
    """What the search found.

    `kept` are the nodes that stay in float, most harmful first, with their signal-to-noise ratio in decibels. `drop`
    is the loss of `model`, measured; `evaluations` counts how often a loss was measured. Where the bound cannot be
    met `is_met` is False, and the model is the one of those tried that lost least.
    """

    model: onnx.ModelProto
    kept: tuple[tuple[str, float], ...]
    drop: float
    evaluations: int
    is_met: bool


def keep_accurate(
    quantizer: Quantizer,
    *,
    drop: Callable[[onnx.ModelProto], float],
    max_drop: float,
    sensitivities: Callable[[], Sequence[Sensitivity]],
    tell: Tell = silent,
) -> Kept:
    """Quantize, and give the most harmful nodes back to float until `drop` of the model is `max_drop` or less.

    The whole graph is measured first; only if it loses too much are the `sensitivities` asked for, most harmful
    first. Then the number of nodes that go back is doubled until the bound holds, and halved in between: about
    2 log2(n) evaluations for n nodes. The loss need not shrink with every node: the answer itself has been measured
    and meets the bound, and one node fewer was measured too and does not. At least one node stays quantized. A loss
    that is not a number counts as infinite.
    """
    search = _Search(quantizer, drop, tell)
    if search.lost(()) <= max_drop:
        return search.result(max_drop)
    order = tuple((each.node, each.decibels) for each in sensitivities())
    failing, passing = 0, None
    for count in _doubling(len(order) - 1):
        if search.lost(order[:count]) <= max_drop:
            passing = count
            break
        failing = count
    while passing is not None and passing - failing > 1:
        middle = (failing + passing) // 2
        if search.lost(order[:middle]) <= max_drop:
            passing = middle
        else:
            failing = middle
    return search.result(max_drop)


def _doubling(most: int) -> list[int]:
    """1, 2, 4 and so on below `most`, then `most` itself; nothing where it is 0."""
    counts = [1 << exponent for exponent in range(most.bit_length()) if 1 << exponent < most]
    return [*counts, most] if most > 0 else []


class _Search:
    """Measures, and remembers the best: within the bound the fewest nodes in float, else the least loss."""

    def __init__(self, quantizer: Quantizer, drop: Callable[[onnx.ModelProto], float], tell: Tell) -> None:
        self._quantizer, self._drop, self._tell = quantizer, drop, tell
        self._tried: list[tuple[float, tuple[tuple[str, float], ...]]] = []

    def lost(self, kept: tuple[tuple[str, float], ...]) -> float:
        found = self._drop(self._quantizer.quantized(frozenset(node for node, _ in kept)))
        found = inf if isnan(found) else found
        self._tried.append((found, kept))
        self._tell(Note(f"{len(kept)} of {len(self._quantizer.nodes)} nodes in float: loss {found:.4g}"))
        return found

    def result(self, max_drop: float) -> Kept:
        met = [each for each in self._tried if each[0] <= max_drop]
        found, kept = min(met, key=lambda each: len(each[1])) if met else min(self._tried, key=lambda each: each[0])
        model = self._quantizer.quantized(frozenset(node for node, _ in kept))
        return Kept(model, kept, found, len(self._tried), bool(met))
