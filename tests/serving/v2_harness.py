"""Real models behind the routes of the Open Inference Protocol v2, asked directly or over a real socket."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import uvloop
from onnx import TensorProto, helper, numpy_helper

from mlctl.runtime.answers import Arrays
from mlctl.runtime.session import OnnxSession
from mlctl.serving.application import Application
from mlctl.serving.catalogue import Catalogue, Entry, Live
from mlctl.serving.guards.audit import audit_of
from mlctl.serving.guards.guard import guard_of
from mlctl.serving.http.listening import listen
from mlctl.serving.http.messages import Request, Response
from mlctl.serving.http.routing import Router
from mlctl.serving.inference import Inference
from mlctl.serving.natural.inputs import natural_for
from mlctl.serving.natural.values import Natural
from mlctl.serving.protocols.open_inference import routes
from mlctl.serving.refusals import NotReady, Refused, Unknown
from mlctl.serving.settings import Limits, Listening
from mlctl.serving.signature import Meaning, Signature
from mlctl.serving.telemetry.access_log import AccessLog
from mlctl.serving.telemetry.statistics import ModelStatistics

Array = npt.NDArray[Any]

ONNX_TYPES = {
    "bool": TensorProto.BOOL, "int8": TensorProto.INT8, "int16": TensorProto.INT16, "int32": TensorProto.INT32,
    "int64": TensorProto.INT64, "uint8": TensorProto.UINT8, "uint16": TensorProto.UINT16, "uint32": TensorProto.UINT32,
    "uint64": TensorProto.UINT64, "float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT,
    "float64": TensorProto.DOUBLE, "object": TensorProto.STRING,
}  # fmt: skip
WEIGHTS = np.arange(12, dtype=np.float32).reshape(4, 3) / 8
LABELS = ("ant", "bee", "cat")


def _model(nodes: Sequence[onnx.NodeProto], inputs: Any, outputs: Any, weights: Mapping[str, Array]) -> bytes:
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(list(nodes), "graph", inputs, outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


def echo_graph(dtypes: Sequence[str], shape: Sequence[int | str] = ("n", "m")) -> bytes:
    """Gives back every input `in_DTYPE` as `out_DTYPE`."""
    inputs, outputs = (
        [helper.make_tensor_value_info(f"{side}_{dtype}", ONNX_TYPES[dtype], list(shape)) for dtype in dtypes]
        for side in ("in", "out")
    )
    nodes = [helper.make_node("Identity", [f"in_{dtype}"], [f"out_{dtype}"]) for dtype in dtypes]
    return _model(nodes, inputs, outputs, {})


def linear_graph(scale: float) -> bytes:
    """float32 x [n, 4] to scores [n, 3], `x @ (WEIGHTS * scale)`, and the place of the highest in each row [n]."""
    return _model(
        [
            helper.make_node("MatMul", ["x", "weights"], ["scores"]),
            helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
        ],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["n"]),
        ],
        {"weights": WEIGHTS * np.float32(scale)},
    )


class Computed:
    """A Live that computes with ONNX Runtime, and answers when its caller has returned to the event loop."""

    def __init__(self, name: str, version: int, graph: bytes, labels: tuple[str, ...] = ()) -> None:
        session = OnnxSession(graph, threads=1)
        self.compute: Callable[[Arrays], Arrays] = session.all
        self.signature = Signature(
            name, version, "onnxruntime", session.inputs, session.outputs, Meaning(labels=labels)
        )
        self.statistics = ModelStatistics()
        self.timeout_seconds = 30.0
        self.queue = 1024
        self.seen: list[Inference] = []

    @property
    def natural(self) -> Natural:
        return natural_for(self.signature)

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        self.seen.append(inference)
        self.statistics.pending += 1
        started = time.perf_counter()
        outputs = self.compute(inference.inputs)
        took = time.perf_counter() - started
        self.statistics.executed(inference.rows, took)
        self.statistics.answered(took, 0.0, took)
        self.statistics.last_inference = time.time()
        asyncio.get_running_loop().call_soon(inference.answered, outputs)


@dataclass
class Versions:
    """A Catalogue of versions that are there from the beginning; `load` and `unload` switch them on and off."""

    there: dict[tuple[str, int], Live] = field(default_factory=dict)
    reasons: dict[tuple[str, int], str] = field(default_factory=dict)
    """Of the versions that are switched off."""
    calls: list[tuple[str, str, str | None]] = field(default_factory=list)
    defect: str = ""
    """Why nothing can be loaded."""

    def put(self, *lives: Live) -> "Versions":
        self.there.update({(live.signature.name, live.signature.version): live for live in lives})
        return self

    @property
    def is_ready(self) -> bool:
        return any(key not in self.reasons for key in self.there)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted({name for name, _ in self.there}))

    def live(self) -> tuple[Live, ...]:
        return tuple(live for key, live in sorted(self.there.items(), key=lambda item: item[0]) if not self.off(key))

    def off(self, key: tuple[str, int]) -> bool:
        return key in self.reasons

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Live:
        assert label is None
        numbers = self.numbers(name) if version is None else [self._known(name, version).signature.version]
        ready = [number for number in numbers if not self.off((name, number))]
        if not ready:
            raise NotReady(f"the model {name!r} does not take requests", retry_after=2)
        return self.there[name, ready[-1]]

    def numbers(self, name: str) -> list[int]:
        found = sorted(number for there, number in self.there if there == name)
        if not found:
            raise Unknown(f"there is no model {name!r}")
        return found

    def entries(self, name: str | None = None) -> tuple[Entry, ...]:
        keys = sorted(self.there) if name is None else [(name, number) for number in self.numbers(name)]
        return tuple(
            Entry(*key, "unavailable", self.reasons[key]) if self.off(key) else Entry(*key, "ready") for key in keys
        )

    async def load(self, name: str, version: str | None = None) -> None:
        self.calls.append(("load", name, version))
        await asyncio.sleep(0)
        if self.defect:
            raise NotReady(self.defect)
        live = self.there[name, self.numbers(name)[-1]] if version is None else self._known(name, version)
        self.reasons.pop((name, live.signature.version), None)

    async def unload(self, name: str, version: str | None = None) -> None:
        self.calls.append(("unload", name, version))
        for number in self.numbers(name) if version is None else [self._known(name, version).signature.version]:
            self.reasons[name, number] = "unloaded"

    def _known(self, name: str, version: str) -> Live:
        found = {str(number): self.there[name, number] for number in self.numbers(name)}
        if version not in found:
            raise Unknown(f"the model {name!r} has no version {version!r}")
        return found[version]


def small_catalogue() -> Versions:
    """`linear` in versions 1 and 2 (twice the weights), `echo` of all numbers, `texts`, and a `fixed` shape."""
    numbers = [dtype for dtype in ONNX_TYPES if dtype != "object"]
    return Versions().put(
        Computed("linear", 1, linear_graph(1), LABELS),
        Computed("linear", 2, linear_graph(2), LABELS),
        Computed("echo", 1, echo_graph(numbers)),
        Computed("texts", 1, echo_graph(["object"])),
        Computed("fixed", 1, echo_graph(["float32"], (2, 3))),
    )


class Asker:
    """The routes of a catalogue, asked without a network."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._router = Router(routes(catalogue))

    def __call__(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Response:
        """The one answer that came. A refusal is in the route's form; anything else that a handler raises is a bug."""
        return asyncio.run(self._asked(Request(method, path, headers or {}, body, "127.0.0.1", 0.0)))

    async def _asked(self, request: Request) -> Response:
        request.received = asyncio.get_running_loop().time()
        route, parameters = self._router.find(request.method, request.path)
        answers: list[Response] = []
        came = asyncio.Event()

        def respond(response: Response) -> None:
            answers.append(response)
            came.set()

        try:
            route.handler(request, parameters, respond)
        except Refused as refused:
            return route.refusal(refused)
        await asyncio.wait_for(came.wait(), 30)
        (answer,) = answers
        return answer


@contextmanager
def served(catalogue: Catalogue, tokens: Path | None = None) -> Iterator[tuple[int, list[str]]]:
    """A whole server on a free port, and what went wrong inside it: bugs, each by what its event loop was told."""
    bugs: list[str] = []
    ports: list[int] = []
    started = threading.Event()
    ends: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def serve() -> None:
        loop, end = asyncio.get_running_loop(), asyncio.Event()
        loop.set_exception_handler(lambda _, told: bugs.append(repr(told)))
        application = Application(routes(catalogue), guard_of(tokens), audit_of(None), AccessLog(None))
        listener = await listen(application, Listening(port=0), Limits())
        ports.append(listener.port)
        ends.append((loop, end))
        started.set()
        await end.wait()
        await listener.drain(5)

    thread = threading.Thread(target=lambda: uvloop.run(serve()), daemon=True)
    thread.start()
    assert started.wait(30), "the server did not start"
    try:
        yield ports[0], bugs
    finally:
        loop, end = ends[0]
        loop.call_soon_threadsafe(end.set)
        thread.join(30)
