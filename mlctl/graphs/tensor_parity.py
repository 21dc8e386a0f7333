"""Where two forms of one model begin to differ: every tensor that both compute, compared."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from mlctl.errors import DataError
from mlctl.graphs.parity import Floats, differences
from mlctl.graphs.tracing import Traced, TracedTensor
from mlctl.runtime.answers import Arrays

ROWS_AT_ONCE = 4
"""Rows that run together: memory holds all tensors of both forms for as many, however many rows are compared."""

FLOAT32_DECIBELS = 144.5
"""20 · log10(2^24): no float32 tensor has a better signal-to-noise ratio that means anything."""

_CUTTING = ("relu", "clip", "clamp")
"""What is in the names of operators that a rounding to a range can take over."""

Pair: TypeAlias = tuple[TracedTensor, TracedTensor]
Tensors: TypeAlias = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of B against its namesake of A, over all rows; `weights` are those that its node reads.

    `max_difference` is, over all numbers, the largest of the smaller of absolute and relative difference: the rule of
    `graphs.parity`. `signal_to_noise` is 10 · log10(Σ a² / Σ (a − b)²) in dB: ∞ where both are equal, −∞ where numbers
    are not finite or shapes differ. `loss` is how many dB of it are lost in the node, counted from the worst tensor
    that the node reads, and from what float32 holds where that is exact. `rounding` is the ratio in dB that is left
    where B rounds this tensor to integers and back, None where it does not.
    """

    name: str
    node: str
    operator: str
    module: str
    weights: tuple[str, ...]
    max_absolute: float
    max_relative: float
    max_difference: float
    signal_to_noise: float
    loss: float
    rounding: float | None


@dataclass(frozen=True)
class TensorParity:
    """Two forms of one model, A and B, tensor by tensor, in the order in which B computes them.

    `first` is the first tensor whose difference is beyond the tolerance. `outputs` are the answers. `optimized_a` and
    `optimized_b` are the largest differences between the answers before and after ONNX Runtime's own optimizations,
    None for torch. `unmatched` counts the tensors of B that A does not have.
    """

    rows: int
    tolerance: float
    tensors: tuple[TensorDifference, ...]
    outputs: tuple[TensorDifference, ...]
    optimized_a: float | None
    optimized_b: float | None
    unmatched: int

    @property
    def first(self) -> TensorDifference | None:
        """Where the two begin to differ."""
        return next((each for each in self.tensors if each.max_difference > self.tolerance), None)

    @property
    def worst(self) -> float:
        """The largest difference that was found, that of ONNX Runtime's optimizations included."""
        optimized = [each for each in (self.optimized_a, self.optimized_b) if each is not None]
        return max([each.max_difference for each in self.tensors] + optimized, default=0.0)

    @property
    def is_within_tolerance(self) -> bool:
        """Whether nothing differs beyond the tolerance."""
        return self.worst <= self.tolerance

    @property
    def costliest(self) -> TensorDifference:
        """The tensor whose node loses most of the signal."""
        return max(self.tensors, key=lambda each: each.loss)


def tensor_parity(a: Traced, b: Traced, rows: Arrays, *, tolerance: float) -> TensorParity:
    """Run both on the same raw inputs [N, ...], and compare every tensor that both have.

    Raises DataError without rows, for forms that share no tensor, and for rows that do not fit a form.
    """
    require_rows(rows)
    shared = pairs(a, b)
    if not shared:
        raise DataError(
            "the two share no tensor, so they are no forms of one model",
            next="name two steps of one model's life, such as train and export, or export and quantize",
        )
    tallies = {second.name: _Tally() for _, second in shared}
    rounded = _rounded(b.tensors)
    roundings = {name: _Tally() for name in rounded if name in tallies}
    optimized = _Tally(), _Tally()
    for start in range(0, len(rows[0]), ROWS_AT_ONCE):
        batch = tuple(np.ascontiguousarray(each[start : start + ROWS_AT_ONCE]) for each in rows)
        of_a, of_b = a.run(batch), b.run(batch)
        for first, second in shared:
            tallies[second.name].add(of_a.get(first.name), of_b.get(_as_meant(first, second, rounded)))
        for name, tally in roundings.items():
            tally.add(of_b.get(name), of_b.get(rounded[name]))
        _add_optimized(optimized[0], a, of_a, batch)
        _add_optimized(optimized[1], b, of_b, batch)
    compared = tuple(_compared(shared, b.tensors, tallies, roundings))
    answers = set(b.outputs)
    return TensorParity(
        rows=len(rows[0]),
        tolerance=tolerance,
        tensors=compared,
        outputs=tuple(each for each in compared if each.name in answers),
        optimized_a=optimized[0].max_difference if optimized[0].is_used else None,
        optimized_b=optimized[1].max_difference if optimized[1].is_used else None,
        unmatched=len(b.tensors) - len(shared),
    )


def require_rows(rows: Arrays) -> None:
    """Raise DataError where there is no row."""
    if len(rows[0]) == 0:
        raise DataError("there are no rows to compare", next="give the split a larger share, or choose other data")


def pairs(a: Traced, b: Traced) -> tuple[Pair, ...]:
    """The tensors that both have, in the order of `b`.

    Answers belong together by their place, tensors of one framework by their names. An ONNX value belongs to the torch
    call that its node was made for where it bears that call's name, with a number where the name was taken, and else
    to the call of its own name: a batch norm that was folded into a convolution is compared after the norm.
    """
    of_a = {each.name: each for each in a.tensors}
    answers = dict(zip(b.outputs, a.outputs, strict=False))
    if a.framework == b.framework:
        return tuple((of_a[name], each) for each in b.tensors if (name := answers.get(each.name, each.name)) in of_a)
    if b.framework == "torch":
        swapped = {second.name: first for second, first in pairs(b, a)}
        return tuple((swapped[each.name], each) for each in b.tensors if each.name in swapped)
    found = ((answers.get(each.name) or _call(each, of_a), each) for each in b.tensors)
    return tuple((of_a[name], each) for name, each in found if name in of_a)


def _call(tensor: TracedTensor, calls: Mapping[str, TracedTensor]) -> str:
    # A weight may bear the name already: the value of the call `mean` is then `mean_1`.
    is_its_own = tensor.call in calls and re.fullmatch(re.escape(tensor.call) + r"(_\d+)?", tensor.name)
    return tensor.call if is_its_own else tensor.name


@dataclass
class _Tally:
    """What the differences of one tensor came to so far."""

    max_absolute: float = 0.0
    max_relative: float = 0.0
    max_difference: float = 0.0
    is_used: bool = field(default=False)
    _signal: float = 0.0
    _noise: float = 0.0

    def add(self, expected: npt.NDArray[Any] | None, given: npt.NDArray[Any] | None) -> None:
        """Take in one batch; a form that gave no numbers for this tensor has nothing to compare."""
        if expected is None or given is None:
            return
        self.is_used = True
        if expected.shape != given.shape:
            self.max_absolute = self.max_relative = self.max_difference = self._noise = math.inf
            return
        self._add(expected.astype(np.float64), given.astype(np.float64))

    def _add(self, expected: Floats, given: Floats) -> None:
        absolute, relative = differences(expected, given)
        self.max_absolute = max(self.max_absolute, float(absolute.max(initial=0)))
        self.max_relative = max(self.max_relative, float(relative.max(initial=0)))
        self.max_difference = max(self.max_difference, float(np.minimum(absolute, relative).max(initial=0)))
        # What is infinite in both, such as a mask, is no signal that noise could hide in.
        self._signal += float(np.square(expected, where=np.isfinite(expected), out=np.zeros_like(expected)).sum())
        self._noise += float(np.square(absolute).sum())

    @property
    def signal_to_noise(self) -> float:
        """In dB."""
        if self._noise == 0:
            return math.inf
        if self._signal == 0 or math.isinf(self._noise):
            return -math.inf
        return 10 * math.log10(self._signal / self._noise)


def _add_optimized(tally: _Tally, form: Traced, as_written: Tensors, batch: Arrays) -> None:
    optimized = form.optimized(batch)
    for name, answers in zip(form.outputs, optimized or (), strict=optimized is not None):
        tally.add(as_written.get(name), answers)


def _as_meant(first: TracedTensor, second: TracedTensor, rounded: Mapping[str, str]) -> str:
    """The tensor of B that stands for `first`: where B's rounding cuts off what a ReLU did in A, what is left of it."""
    cuts = [any(word in each.operator.lower() for word in _CUTTING) for each in (first, second)]
    return rounded.get(second.name, second.name) if cuts == [True, False] else second.name


def _rounded(tensors: Sequence[TracedTensor]) -> dict[str, str]:
    """The tensors that are made integers, each with what becomes of it afterwards."""
    quantized = {each.name: each.inputs[0] for each in tensors if each.operator == "QuantizeLinear"}
    restored = (each for each in tensors if each.operator == "DequantizeLinear" and each.inputs[0] in quantized)
    return {quantized[each.inputs[0]]: each.name for each in restored}


def _compared(
    shared: Sequence[Pair],
    order: Sequence[TracedTensor],
    tallies: Mapping[str, _Tally],
    roundings: Mapping[str, _Tally],
) -> Iterator[TensorDifference]:
    ratios = {name: tally.signal_to_noise for name, tally in tallies.items() if tally.is_used}
    losses = _losses(order, ratios)
    for first, second in shared:
        tally = tallies[second.name]
        if not tally.is_used:
            continue
        rounding = roundings.get(second.name)
        yield TensorDifference(
            name=second.name,
            node=second.node,
            operator=second.operator,
            # A pass that fuses nodes may have lost the note.
            module=second.module or first.module,
            weights=second.weights,
            max_absolute=tally.max_absolute,
            max_relative=tally.max_relative,
            max_difference=tally.max_difference,
            signal_to_noise=tally.signal_to_noise,
            loss=losses[second.name],
            rounding=rounding.signal_to_noise if rounding else None,
        )


def _losses(order: Sequence[TracedTensor], ratios: Mapping[str, float]) -> dict[str, float]:
    """By tensor, how many dB it has less than the worst of the compared tensors that it was made from."""
    before: dict[str, float] = {}
    losses: dict[str, float] = {}
    for tensor in order:
        # A tensor that was not compared hands on what it was made from.
        worst = min((before.get(name, FLOAT32_DECIBELS) for name in tensor.inputs), default=FLOAT32_DECIBELS)
        ratio = ratios.get(tensor.name)
        if ratio is not None:
            losses[tensor.name] = max(0.0, worst - min(ratio, FLOAT32_DECIBELS)) if worst > -math.inf else 0.0
        before[tensor.name] = worst if ratio is None else min(ratio, FLOAT32_DECIBELS)
    return losses
