"""Sessions over real files, good and bad."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError, NoSuchDevice, OutOfMemory, StepFailed
from mlctl.runtime.running import Port
from mlctl.runtime.session import OnnxSession

NO_CUDA = "CUDAExecutionProvider" not in onnxruntime.get_available_providers()


def affine(path: Path, *, operator: str = "Gemm") -> Path:
    """A file with y = x w + b, from float32 [batch, 3] to [batch, 2], and a second output w."""
    weight = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "w", "b"], ["y"]), helper.make_node("Identity", ["w"], ["copy"])],
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("copy", TensorProto.FLOAT, [3, 2]),
        ],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.ones(2, np.float32), "b")],
    )
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)])
    helper.set_model_props(model, {"mlctl.task": "regression"})
    onnx.save(model, path)
    return path


def test_a_session_answers_with_its_first_output(tmp_path: Path) -> None:
    session = OnnxSession(affine(tmp_path / "model.onnx"), threads=1)
    assert session((np.array([[1, 0, 0], [0, 1, 1]], np.float32),)).tolist() == [[1, 2], [7, 9]]


def test_a_session_tells_its_ports_and_metadata(tmp_path: Path) -> None:
    session = OnnxSession(affine(tmp_path / "model.onnx"), threads=1)
    assert session.inputs == (Port("x", "float32", (None, 3)),)
    assert session.outputs == (Port("y", "float32", (None, 2)), Port("copy", "float32", (3, 2)))
    assert session.metadata == {"mlctl.task": "regression"}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"batch", b"b\xf1tch", r"its text 'b\\xf1tch' is no UTF-8"),
        (b"copy", b"co\xffy", r"its text 'co\\xffy' is no UTF-8"),
        (b"Gemm", b"G\xf1mm", r"opset 20 has no operator G\\xf1mm"),
    ],
)
def test_names_that_are_no_text_are_damage(tmp_path: Path, old: bytes, new: bytes, told: str) -> None:
    path = affine(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=f"ONNX Runtime cannot load this graph: {told}"):
        OnnxSession(path, threads=1)


def test_metadata_that_are_no_text_are_damage(tmp_path: Path) -> None:
    path = affine(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes().replace(b"regression", b"regress\xf1on"))
    session = OnnxSession(path, threads=1)
    with pytest.raises(DataError, match=r"its text 'regress\\xf1on' is no UTF-8"):
        _ = session.metadata


def test_a_serialized_graph_is_as_good_as_a_file(tmp_path: Path) -> None:
    path = affine(tmp_path / "model.onnx")
    rows = (np.array([[1, 0, 0], [0, 1, 1]], np.float32),)
    session = OnnxSession(path.read_bytes(), threads=1)
    assert session(rows).tolist() == OnnxSession(path, threads=1)(rows).tolist()
    assert (session.name, session.detail) == ("onnxruntime", "CPUExecutionProvider")


def test_all_outputs_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    path = affine(tmp_path / "model.onnx")
    rows = (np.zeros((1, 3), np.float32),)
    answers, copy = OnnxSession(path, threads=1).all(rows)
    assert (answers.tolist(), copy.tolist()) == ([[1, 1]], [[0, 1], [2, 3], [4, 5]])
    turned = OnnxSession(path, threads=1, outputs=("copy", "y"))
    assert [port.name for port in turned.outputs] == ["copy", "y"]
    assert [each.shape for each in turned.all(rows)] == [(3, 2), (1, 2)]
    assert turned(rows).tolist() == copy.tolist()
    assert len(OnnxSession(path, threads=1, outputs=("copy",)).all(rows)) == 1


def test_an_output_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no output z; it has y, copy"):
        OnnxSession(affine(tmp_path / "model.onnx"), threads=1, outputs=("y", "z"))


@pytest.mark.parametrize(
    "rows",
    [np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64), np.zeros(3, np.float32)],
    ids=["width", "dtype", "rank"],
)
def test_a_batch_that_does_not_fit_is_refused_on_one_line(tmp_path: Path, rows: npt.NDArray[Any]) -> None:
    path = affine(tmp_path / "model.onnx")
    with pytest.raises(StepFailed, match="cannot answer this batch: ") as refusal:
        OnnxSession(path, threads=1)((rows,))
    assert refusal.value.where == str(path)
    assert "\n" not in refusal.value.what


def test_a_batch_that_finds_no_memory_is_out_of_memory() -> None:
    """2^40 rows of 2^10 numbers, 4 PiB, are more than any machine gives."""
    shape = numpy_helper.from_array(np.array([1 << 40, 1 << 10], np.int64), "shape")
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("ReduceSum", ["wide"], ["y"], keepdims=0),
    ]
    session = OnnxSession(graph_of(nodes, initializers=[shape], width=1, answer=[]), threads=1, is_optimized=False)
    with pytest.raises(OutOfMemory, match="no memory"):
        session((np.zeros((1, 1), np.float32),))


def test_the_number_of_inputs_must_fit(tmp_path: Path) -> None:
    session = OnnxSession(affine(tmp_path / "model.onnx"), threads=1)
    with pytest.raises(ValueError, match="shorter"):
        session(())


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 10], ids=["missing", "empty", "nonsense"])
def test_a_file_that_is_no_graph_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match="cannot load this graph") as refusal:
        OnnxSession(path, threads=1)
    assert refusal.value.where == str(path)
    assert "\n" not in refusal.value.what


def test_a_cut_off_file_is_a_data_error(tmp_path: Path) -> None:
    path = affine(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError):
        OnnxSession(path, threads=1)


def graph_of(
    nodes: list[onnx.NodeProto],
    *,
    opset: int = 20,
    ir_version: int = 10,
    domains: tuple[str, ...] = (),
    initializers: list[TensorProto] | None = None,
    width: int = 3,
    answer: list[int | str] | None = None,
) -> bytes:
    """A serialized graph of these nodes, from `x` float32 [batch, width] to `y`."""
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width] if answer is None else answer)],
        initializers or [],
    )
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return bytes(helper.make_model(graph, ir_version=ir_version, opset_imports=opsets).SerializeToString())


RELU = helper.make_node("Relu", ["x"], ["y"])
FANCY = helper.make_node("Fancy", ["x"], ["y"], domain="my.ops")
CYCLE = [helper.make_node("Add", ["x", "b"], ["a"]), helper.make_node("Relu", ["a"], ["b"]), RELU]
OUTSIDE = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[3], data_location=TensorProto.EXTERNAL)
OUTSIDE.external_data.add(key="location", value="../w.bin")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (graph_of([helper.make_node("Nope", ["x"], ["y"])]), "opset 20 has no operator Nope"),
        (graph_of([FANCY], domains=("my.ops",)), "Fancy of the domain my.ops is a custom operator"),
        (graph_of([FANCY]), "no opset of my.ops is named, and Fancy is its operator"),
        (graph_of([RELU], opset=99), "opset 99 of ai.onnx is unknown, the newest is "),
        (graph_of([RELU], ir_version=99), "IR version 99 is unknown, the newest is "),
        (graph_of(CYCLE), "its nodes form a cycle"),
        (graph_of([RELU])[:-10], "it is cut off, or no ONNX file at all"),
        (graph_of([helper.make_node("Relu", ["z"], ["y"])]), "Node input 'z' is not a graph input"),
        (graph_of([helper.make_node("Add", ["x", "w"], ["y"])], initializers=[OUTSIDE]), "escapes"),
    ],
    ids=["operator", "custom", "no opset", "opset", "ir", "cycle", "cut off", "no input", "outside"],
)
def test_what_is_wrong_with_a_graph_is_said_in_its_own_words(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(DataError) as refusal:
            OnnxSession(source, threads=1)
        assert words in refusal.value.what
        assert "\n" not in refusal.value.what
        assert "onnxruntime_src" not in refusal.value.what
    assert [each.name for each in tmp_path.iterdir()] == ["model.onnx"]


def test_an_operator_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nope"):
        OnnxSession(affine(tmp_path / "model.onnx", operator="Nope"), threads=1)


@pytest.mark.skipif(not NO_CUDA, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt", "tensorrt:0"])
def test_a_device_without_its_provider_is_no_such_device(tmp_path: Path, device: str) -> None:
    with pytest.raises(NoSuchDevice, match=device):
        OnnxSession(affine(tmp_path / "model.onnx"), threads=1, device=device)


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cpu:", "cuda:x", "cuda:", "tensorrt:-1", ""])
def test_an_unknown_device_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(NoSuchDevice, match="no device that runs graphs"):
        OnnxSession(affine(tmp_path / "model.onnx"), threads=1, device=device)


@pytest.mark.skipif(not NO_CUDA, reason="this ONNX Runtime has CUDA")
def test_a_provider_that_does_not_come_into_use_is_no_such_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with onnxruntime-gpu where CUDA's libraries are missing: it says it has the provider, and takes another."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    path = affine(tmp_path / "model.onnx")
    with pytest.warns(UserWarning, match="CUDAExecutionProvider"), pytest.raises(NoSuchDevice, match="not here"):
        OnnxSession(path, threads=1, device="cuda")


def test_nothing_is_written_to_a_terminal(tmp_path: Path) -> None:
    good, bad = affine(tmp_path / "good.onnx"), affine(tmp_path / "bad.onnx", operator="Nope")
    program = f"""
import numpy as np
from pathlib import Path
from mlctl.errors import DataError
from mlctl.runtime.session import OnnxSession
OnnxSession(Path({str(good)!r}), threads=2)((np.zeros((1, 3), np.float32),))
try:
    OnnxSession(Path({str(bad)!r}), threads=1)
except DataError:
    pass
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("", "")
