"""Small graphs that are published without a recipe, and what must hold of a repository at every instant."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc.model_config_pb2 import ModelConfig

from mlctl.engine.manifest import stored_files
from mlctl.serving.repository.golden import Golden, GoldenRequest
from mlctl.serving.repository.publishing import Candidate
from mlctl.serving.repository.record import CLASSES, FigureRecord, GateRecord, PortRecord
from mlctl.serving.repository.repository import Repository

CLASS_NAMES = ("low", "middle", "high")


def graph_bytes(factor: float = 1.0) -> bytes:
    """x float32 [batch, 4] to probabilities float32 [batch, 3]: softmax(factor · x · W), W a fixed matrix."""
    weights = (factor * np.random.default_rng(3).standard_normal((4, 3))).astype(np.float32)
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["p"], axis=1)],
        "g",
        [value("x", TensorProto.FLOAT, ["batch", 4])],
        [value("p", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def rows(count: int = 20) -> tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Held-out rows float32 [count, 4]."""
    return (np.random.default_rng(4).standard_normal((count, 4)).astype(np.float32),)


@cache
def golden() -> tuple[Golden, str]:
    """Two golden requests that no session was needed for."""
    (inputs,) = rows(2)
    answers = np.full((2, 3), 1 / 3, np.float32)
    requests = tuple(GoldenRequest((inputs[n : n + 1],), (answers[n : n + 1],)) for n in range(2))
    return Golden(requests, ("p",), 1e-4, "argmax"), "made up"


def candidate(folder: Path, *, name: str = "m", factor: float = 1.0, fingerprint: str = "f" * 64) -> Candidate:
    """What is to be published, its graph written into `folder`, with the golden requests of `golden`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(graph_bytes(factor))
    return Candidate(
        name=name,
        files=(folder / "model.onnx",),
        digests=stored_files(folder),
        recipe="recipe.yaml",
        step="export",
        stage="export",
        fingerprint=fingerprint,
        made="2026-01-01T00:00:00+00:00",
        task="image-classification",
        labels=CLASS_NAMES,
        inputs=(PortRecord("x", "float32", (None, 4)),),
        outputs=(PortRecord("p", "float32", (None, 3)),),
        max_batch=64,
        gates=(GateRecord("export.parity <= 0.0001", "passed", 0.0, 1e-4),),
        figures=(FigureRecord("eval[export].accuracy", 0.97, "", 0.95, 0.98),),
        golden=golden,
    )


def candidates(folder: Path, count: int) -> Sequence[Candidate]:
    """Different artifacts of one model."""
    return [
        replace(candidate(folder / str(number), factor=1.0 + number), fingerprint=f"{number:064x}")
        for number in range(count)
    ]


def triton_config(root: Path, name: str = "m") -> ModelConfig:
    """What Triton reads of a model."""
    return text_format.Parse((root / name / "config.pbtxt").read_text(), ModelConfig())


def assert_whole(root: Path, name: str = "m") -> tuple[int, ...]:
    """Nothing half-made is visible: every version opens, labels and Triton's configuration name some of them."""
    repository = Repository(root)
    versions = repository.versions(name)
    for version in versions:
        opened = repository.open_version(name, version)
        assert opened.record is not None
        assert opened.golden is not None
        assert (opened.folder / CLASSES).read_text().split() == list(CLASS_NAMES)
    assert set(repository.labels(name).values()) <= set(versions)
    if (root / name / "config.pbtxt").exists():
        config = triton_config(root, name)
        (told,) = config.version_policy.specific.versions
        assert told in versions
        assert (root / name / config.output[0].label_filename).is_file()
    return versions
