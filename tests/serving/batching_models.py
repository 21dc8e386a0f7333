"""Small graphs whose rows mix, depend on their length, or refuse; and a model in NumPy that can be told to fail."""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from graphs_from_elsewhere import model
from onnx import TensorProto, helper

from mlctl.errors import StepFailed
from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Port, Runtime
from mlctl.runtime.session import OnnxSession
from mlctl.serving.batching.costs import Costs, Curve
from mlctl.serving.batching.layout import Layout, layout_of
from mlctl.serving.batching.waiting import Waiting
from mlctl.serving.inference import Answered, Inference

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
POISON = -1.0
"""A row that begins with it makes the whole batch fail."""


def session(made: onnx.ModelProto) -> OnnxSession:
    return OnnxSession(made.SerializeToString(), threads=1)


def table(rows: int, width: int = 4) -> npt.NDArray[np.float32]:
    return np.random.default_rng(3).normal(size=(rows, width)).astype(np.float32)


def looked_up(vocabulary: int = 200, longest: int | None = None) -> onnx.ModelProto:
    """ids [rows, tokens] to vectors [rows, tokens, 4]; those of places where only so many tokens are taken."""
    nodes = [helper.make_node("Gather", ["table", "ids"], ["plain"])]
    weights: dict[str, npt.NDArray[Any]] = {"table": table(vocabulary)}
    if longest is None:
        nodes += [helper.make_node("Identity", ["plain"], ["vectors"])]
    else:
        weights |= {"places": table(longest), "zero": np.array(0), "one": np.array(1)}
        nodes += [
            helper.make_node("Shape", ["ids"], ["count"], start=1, end=2),
            helper.make_node("Squeeze", ["count"], ["tokens"]),
            helper.make_node("Range", ["zero", "tokens", "one"], ["order"]),
            helper.make_node("Gather", ["places", "order"], ["offsets"]),
            helper.make_node("Add", ["plain", "offsets"], ["vectors"]),
        ]
    return model(nodes, {"ids": (INT64, ["rows", "tokens"])}, {"vectors": (FLOAT, ["rows", "tokens", 4])}, weights)


def masked_mean() -> onnx.ModelProto:
    """ids and attention_mask [rows, tokens] to the mean vector of the tokens that are real, [rows, 4]."""
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["vectors"]),
        helper.make_node("Cast", ["attention_mask"], ["weights"], to=FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"]),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"]),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], keepdims=0),
        helper.make_node("ReduceSum", ["weights", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["total", "count"], ["mean"]),
    ]
    return model(
        nodes,
        {"ids": (INT64, ["rows", "tokens"]), "attention_mask": (INT64, ["rows", "tokens"])},
        {"mean": (FLOAT, ["rows", 4])},
        {"table": table(200), "last": np.array([2]), "middle": np.array([1])},
    )


def at_most(limit: int) -> onnx.ModelProto:
    """x [rows, 4] plus a row of a table of so many: more rows at once are refused."""
    nodes = [
        helper.make_node("Shape", ["x"], ["count"], start=0, end=1),
        helper.make_node("Squeeze", ["count"], ["rows"]),
        helper.make_node("Range", ["zero", "rows", "one"], ["order"]),
        helper.make_node("Gather", ["table", "order"], ["offsets"]),
        helper.make_node("Mul", ["offsets", "nothing"], ["zeros"]),
        helper.make_node("Add", ["x", "zeros"], ["y"]),
    ]
    weights = {"table": table(limit), "zero": np.array(0), "one": np.array(1), "nothing": np.zeros(1, np.float32)}
    return model(nodes, {"x": (FLOAT, ["rows", 4])}, {"y": (FLOAT, ["rows", 4])}, weights)


def mixing() -> onnx.ModelProto:
    """x [rows, 4] less the mean of the batch: every row's answer depends on the others."""
    nodes = [
        helper.make_node("ReduceMean", ["x", "first"], ["mean"], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return model(nodes, {"x": (FLOAT, ["rows", 4])}, {"y": (FLOAT, ["rows", 4])}, {"first": np.array([0])})


def dynamically_quantized() -> onnx.ModelProto:
    """x [rows, 4] through integers whose scale is that of the whole batch."""
    nodes = [
        helper.make_node("DynamicQuantizeLinear", ["x"], ["whole", "scale", "zero"]),
        helper.make_node("DequantizeLinear", ["whole", "scale", "zero"], ["y"]),
    ]
    return model(nodes, {"x": (FLOAT, ["rows", 4])}, {"y": (FLOAT, ["rows", 4])}, {})


@dataclass
class Doubling:
    """x float32 [n, T, 1] to 2x [n, T, 1] and the sum of every row [n]; it remembers its batches.

    `gate` holds every call up until it is set.
    """

    is_ragged: bool = True
    gate: threading.Event | None = None
    name: Runtime = "onnxruntime"
    detail: str = "NumPy"
    batches: list[npt.NDArray[Any]] = field(default_factory=list)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    @property
    def inputs(self) -> tuple[Port, ...]:
        return (Port("x", "float32", (None, None if self.is_ragged else 3, 1)),)

    @property
    def outputs(self) -> tuple[Port, ...]:
        return (Port("doubled", "float32", (None, None if self.is_ragged else 3, 1)), Port("sum", "float32", (None,)))

    def __call__(self, inputs: Arrays) -> npt.NDArray[Any]:
        return self.all(inputs)[0]

    def all(self, inputs: Arrays) -> Arrays:
        (x,) = inputs
        self.batches.append(x)
        self.entered.release()
        if self.gate is not None:
            assert self.gate.wait(30)
        if (x[:, 0] == POISON).any():
            raise StepFailed("a row is poisonous")
        return x * 2, x.sum(axis=(1, 2))

    @property
    def layout(self) -> Layout:
        return layout_of(self.inputs, self.outputs, 0)


def costs(max_size: int = 8, *, fixed: float = 1.0, per_row: float = 0.1, can_pad: bool = True) -> Costs:
    """A batch takes `fixed` seconds, and `per_row` for every row and every 8 in length."""
    sizes = tuple(2**each for each in range(12) if 2**each <= max_size) + (
        (max_size,) if max_size & (max_size - 1) else ()
    )
    curves = tuple(
        Curve(length, sizes, tuple(fixed + per_row * size * max(1, length / 8) for size in sizes))
        for length in (0, 8, 32)
    )
    return Costs(curves, max_size, can_join=True, can_pad=can_pad)


def waiting(rows: int, length: int, *, key: object = "key", value: float = 1.0) -> Waiting:
    """A request of rows [rows, length, 1]."""
    inputs = (np.full((rows, length, 1), value, np.float32),)
    return Waiting(Inference(inputs, lambda _: None, 0.0), inputs, str(key), length)


class Schedule:
    """What the batcher needs of an event loop: a test turns it by hand, and moves its clock."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready: list[asyncio.Handle] = []
        self.timers: list[asyncio.TimerHandle] = []
        self.raised: list[BaseException] = []

    def time(self) -> float:
        return self.now

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return cast("asyncio.AbstractEventLoop", self)

    def get_debug(self) -> bool:
        return False

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.loop, context)
        self.ready.append(handle)
        return handle

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any, context: Any = None) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(when, callback, args, self.loop, context)
        self.timers.append(handle)
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle in self.timers:
            self.timers.remove(handle)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        self.raised.append(context["exception"])

    def turn(self) -> None:
        """Run what is ready, and timers that are due; what they schedule is for the next turn."""
        due = [each for each in self.timers if each.when() <= self.now]
        for each in due:
            self.timers.remove(each)
        handles, self.ready = [*self.ready, *due], []
        for handle in handles:
            if not handle.cancelled():
                handle._run()


def inference(inputs: Arrays, answered: Answered, deadline: float = 1e9, arrived: float = 0.0) -> Inference:
    return Inference(inputs, answered, deadline, arrived)
