"""Small real models of every kind, and their routes, asked without a network."""

import asyncio
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from onnx import helper, numpy_helper
from PIL import Image
from v2_harness import ONNX_TYPES, Array, Computed, Versions, linear_graph

from mlctl.serving.catalogue import Live
from mlctl.serving.http.messages import Request, Response
from mlctl.serving.http.refusing import with_headers
from mlctl.serving.http.routing import Route, Router
from mlctl.serving.inference import Inference
from mlctl.serving.openapi.serving import routes as openapi_routes
from mlctl.serving.protocols import invocations, tensorflow_serving, torchserve, torchserve_management
from mlctl.serving.refusals import Refused, Unknown
from mlctl.serving.signature import InputMeaning, Meaning

Ports = Mapping[str, tuple[str, Sequence[int | str]]]
"""By name the NumPy dtype and the shape."""


class Meaningful(Computed):
    """A Live whose file says what it is for; what it is told to refuse, it refuses."""

    def __init__(self, name: str, version: int, graph: bytes, meaning: Meaning) -> None:
        super().__init__(name, version, graph)
        self.signature = replace(self.signature, meaning=meaning)
        self.refuses: Refused | None = None

    def hold(self) -> Callable[[], None]:
        return lambda: None

    def submit(self, inference: Inference) -> None:
        if self.refuses:
            raise self.refuses
        super().submit(inference)


@dataclass
class Labelled(Versions):
    """A Catalogue with labels: the label `old` is version 1 of every model."""

    labels: dict[str, int] = field(default_factory=lambda: {"old": 1})

    def find(self, name: str, version: str | None = None, label: str | None = None) -> Live:
        if label is None:
            return super().find(name, version)
        if label not in self.labels:
            raise Unknown(f"the model {name!r} has no label {label!r}")
        return super().find(name, str(self.labels[label]))


def graph(nodes: Sequence[Any], inputs: Ports, outputs: Ports, weights: Mapping[str, Array] | None = None) -> bytes:
    """A serialized ONNX graph."""
    given, made = (
        [helper.make_tensor_value_info(name, ONNX_TYPES[dtype], list(shape)) for name, (dtype, shape) in ports.items()]
        for ports in (inputs, outputs)
    )
    stored = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    whole = helper.make_graph(list(nodes), "graph", given, made, stored)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    return bytes(model.SerializeToString())


def half_plus_three() -> bytes:
    """x [n] to y [n] = x / 2 + 3: the model of TensorFlow Serving's documentation."""
    nodes = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "three"], ["y"])]
    weights = {"half": np.array(0.5, np.float32), "three": np.array(3, np.float32)}
    return graph(nodes, {"x": ("float32", ["n"])}, {"y": ("float32", ["n"])}, weights)


def three_inputs() -> bytes:
    """The documentation's tag, signal and sensor, given back under other names."""
    shapes: Ports = {"tag": ("object", ["n"]), "signal": ("int64", ["n", 5]), "sensor": ("float32", ["n", 2, 2])}
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in shapes]
    return graph(nodes, shapes, {f"{name}_out": kind for name, kind in shapes.items()})


def brightness() -> bytes:
    """image uint8 [n, 1, 2, 2] to the probabilities of dark and light [n, 2]: the mean over 255, and what is left."""
    nodes = [
        helper.make_node("Cast", ["image"], ["number"], to=ONNX_TYPES["float32"]),
        helper.make_node("ReduceMean", ["number", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "most"], ["light"]),
        helper.make_node("Unsqueeze", ["light", "one"], ["column"]),
        helper.make_node("Sub", ["unit", "column"], ["dark"]),
        helper.make_node("Concat", ["dark", "column"], ["probabilities"], axis=1),
    ]
    weights = {
        "axes": np.array([1, 2, 3]),
        "most": np.array(255, np.float32),
        "one": np.array([1]),
        "unit": np.array(1, np.float32),
    }
    outputs: Ports = {"probabilities": ("float32", ["n", 2])}
    return graph(nodes, {"image": ("uint8", ["n", 1, 2, 2])}, outputs, weights)


def price() -> bytes:
    """row [n, 2] to [n, 1]: the first column and ten times the second."""
    nodes = [helper.make_node("MatMul", ["row", "w"], ["price"])]
    weights = {"w": np.array([[1], [10]], np.float32)}
    return graph(nodes, {"row": ("float32", ["n", 2])}, {"price": ("float32", ["n", 1])}, weights)


def token_sum() -> bytes:
    """input_ids [n, t] to their sum, as an embedding [n, 1]."""
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["number"], to=ONNX_TYPES["float32"]),
        helper.make_node("ReduceSum", ["number", "axis"], ["embedding"], keepdims=1),
    ]
    inputs: Ports = {"input_ids": ("int64", ["n", "t"])}
    return graph(nodes, inputs, {"embedding": ("float32", ["n", 1])}, {"axis": np.array([1])})


def word_tokenizer(path: Path) -> Path:
    """A tokenizer that knows `one`, `two` and `three` by their numbers."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {"?": 0, "one": 1, "two": 2, "three": 3}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return path


def catalogue(folder: Path) -> Labelled:
    """`half_plus_three` 122 and 123, `three`, `linear` with labels, `light` of images, `price` of rows, `words`."""
    tokenizer = word_tokenizer(folder / "tokenizer.json")
    bees = Meaning("image-classification", ("ant", "bee", "cat"))
    found = Labelled(labels={"old": 122})
    found.put(
        Meaningful("half_plus_three", 122, half_plus_three(), Meaning()),
        Meaningful("half_plus_three", 123, half_plus_three(), Meaning()),
        Meaningful("three", 1, three_inputs(), Meaning()),
        Meaningful("linear", 1, linear_graph(1), bees),
        Meaningful("light", 1, brightness(), Meaning("image-classification", ("dark", "light"))),
        Meaningful("price", 1, price(), Meaning("regression", (), (InputMeaning("row", ("area", "rooms")),))),
        Meaningful("words", 1, token_sum(), Meaning("embedding", (), (), tokenizer)),
    )
    return found


def all_routes(models: Labelled) -> tuple[Route, ...]:
    """Those of all protocols here."""
    found = (
        *tensorflow_serving.routes(models),
        *torchserve.routes(models),
        *torchserve_management.routes(models),
        *invocations.routes(models),
    )
    return (*found, *openapi_routes(found))


def png(*rows: Sequence[int]) -> bytes:
    """An image file of grey pixels."""
    stream = io.BytesIO()
    Image.fromarray(np.array(rows, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@dataclass
class Asker:
    """Every route of a catalogue, asked without a network; anything that is raised and no refusal is a bug."""

    models: Labelled

    def __post_init__(self) -> None:
        self.routes = all_routes(self.models)
        self._router = Router(self.routes)

    def __call__(
        self, method: str, path: str, body: object = b"", media: str = "", headers: Mapping[str, str] | None = None
    ) -> Response:
        """The one answer; a body that is not bytes is sent as JSON. A query may end the path."""
        content = body if isinstance(body, bytes) else orjson.dumps(body)
        given = dict(headers or {})
        if media or not isinstance(body, bytes):
            given["content-type"] = media or "application/json"
        plain, _, query = path.partition("?")
        return asyncio.run(self._asked(Request(method, plain, given, content, "127.0.0.1", 0.0, query)))

    def json(self, *arguments: Any, **keywords: Any) -> Any:
        """The value of an answer that is JSON."""
        response = self(*arguments, **keywords)
        assert response.media == "application/json"
        return orjson.loads(response.body)

    async def _asked(self, request: Request) -> Response:
        request.received = asyncio.get_running_loop().time()
        route, parameters = self._router.find(request.method, request.path)
        answers: asyncio.Queue[Response] = asyncio.Queue()
        try:
            if route.names_model:
                route.names_model(request)
            route.handler(request, parameters, answers.put_nowait)
        except Refused as refused:
            return with_headers(route.refusal(refused), refused)
        answer = await asyncio.wait_for(answers.get(), 30)
        assert answers.empty()
        return answer


def closed(models: Labelled, name: str, version: int) -> None:
    """Let a version take no requests."""
    models.reasons[name, version] = "its golden requests were answered wrongly"
