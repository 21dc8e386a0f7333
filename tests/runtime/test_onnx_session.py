"""Sessions over real files, good and bad."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError, NoSuchDevice
from mlctl.runtime.session import OnnxSession, Port

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


def test_an_operator_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="Nope"):
        OnnxSession(affine(tmp_path / "model.onnx", operator="Nope"), threads=1)


@pytest.mark.skipif(not NO_CUDA, reason="this ONNX Runtime has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_its_provider_is_no_such_device(tmp_path: Path, device: str) -> None:
    with pytest.raises(NoSuchDevice, match=device):
        OnnxSession(affine(tmp_path / "model.onnx"), threads=1, device=device)


@pytest.mark.parametrize("device", ["tpu", "cpu:1", "cuda:x", ""])
def test_an_unknown_device_is_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(NoSuchDevice, match="no device that runs graphs"):
        OnnxSession(affine(tmp_path / "model.onnx"), threads=1, device=device)


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
