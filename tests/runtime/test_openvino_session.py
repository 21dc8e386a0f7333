"""OpenVINO's sessions over real files, beside ONNX Runtime's."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError, MissingExtra, NoSuchDevice, StepFailed
from mlctl.runtime.machine import this_processor
from mlctl.runtime.opening import has_openvino, open_graph
from mlctl.runtime.openvino_session import OpenVinoSession
from mlctl.runtime.running import Port
from mlctl.runtime.session import OnnxSession

TYPES = {"float32": TensorProto.FLOAT, "uint8": TensorProto.UINT8, "int64": TensorProto.INT64}


def layer(path: Path, *, dtype: str = "float32", operator: str = "Relu", width: int = 3) -> Path:
    """A file with y = operator(x w), from [batch, width] of this dtype to float32 [batch, 2], and an output `cast`."""
    weight = np.random.default_rng(1).integers(-3, 4, (width, 2)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["x"], ["cast"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["cast", "w"], ["product"]),
            helper.make_node(operator, ["product"], ["y"]),
        ],
        "layer",
        [helper.make_tensor_value_info("x", TYPES[dtype], ["batch", width])],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2]),
            helper.make_tensor_value_info("cast", TensorProto.FLOAT, ["batch", width]),
        ],
        [numpy_helper.from_array(weight, "w")],
    )
    onnx.save(helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64"])
def test_small_whole_numbers_come_out_as_in_onnx_runtime(tmp_path: Path, dtype: str) -> None:
    """Whole numbers up to 256 are exact in bfloat16, and so are these products; their sums are made in float32."""
    path = layer(tmp_path / "model.onnx", dtype=dtype)
    session, reference = OpenVinoSession(path, threads=1), OnnxSession(path, threads=1)
    for batch in (1, 5, 2, 5):
        rows = (np.random.default_rng(batch).integers(0, 9, (batch, 3)).astype(dtype),)
        found = session(rows)
        assert found.dtype == np.float32
        assert found.tolist() == reference(rows).tolist()


def test_weights_beside_the_file_are_read_and_weights_elsewhere_are_not(tmp_path: Path) -> None:
    path = layer(tmp_path / "model.onnx", width=64)
    model = onnx.load(path)
    inside = tmp_path / "inside"
    inside.mkdir()
    onnx.save(model, inside / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    rows = (np.ones((2, 64), np.float32),)
    assert (inside / "w.bin").stat().st_size >= 64 * 2 * 4
    assert (
        OpenVinoSession(inside / "model.onnx", threads=1)(rows).tolist() == OnnxSession(path, threads=1)(rows).tolist()
    )
    moved = onnx.load(inside / "model.onnx", load_external_data=False)
    (inside / "w.bin").rename(tmp_path / "w.bin")
    next(each for each in moved.graph.initializer[0].external_data if each.key == "location").value = "../w.bin"
    (inside / "model.onnx").write_bytes(moved.SerializeToString())
    with pytest.raises(DataError, match="outside"):
        OpenVinoSession(inside / "model.onnx", threads=1)


def test_a_session_says_what_it_is_and_what_it_takes(tmp_path: Path) -> None:
    session = OpenVinoSession(layer(tmp_path / "model.onnx", dtype="uint8"), threads=1)
    assert session.name == "openvino"
    fast = {"amx_bf16", "avx512_bf16"} & {*this_processor().instruction_sets}
    assert session.detail == ("CPU in bf16" if fast else "CPU in f32")
    assert session.inputs == (Port("x", "uint8", (None, 3)),)
    assert session.outputs == (Port("y", "float32", (None, 2)), Port("cast", "float32", (None, 3)))


def test_real_numbers_are_off_by_bfloat16s_rounding_at_most(tmp_path: Path) -> None:
    """Each factor is off by 2^-9 of itself, so a product by 2^-8, and the answer once more where it is rounded too."""
    path = layer(tmp_path / "model.onnx", width=64, operator="Identity")
    rows = np.random.default_rng(0).normal(0, 1, (100, 64)).astype(np.float32)
    weight = np.abs(numpy_helper.to_array(onnx.load(path).graph.initializer[0]))
    expected, found = OnnxSession(path, threads=1)((rows,)), OpenVinoSession(path, threads=1)((rows,))
    assert (np.abs(found - expected) <= (np.abs(rows) @ weight) * 2.0**-7).all()


def test_answers_outlive_the_next_call(tmp_path: Path) -> None:
    session = OpenVinoSession(layer(tmp_path / "model.onnx", operator="Identity"), threads=1)
    first = session((np.ones((2, 3), np.float32),))
    kept = first.copy()
    session((np.full((2, 3), 5, np.float32),))
    assert np.array_equal(first, kept)


def test_every_output_comes_in_the_graphs_order_and_outlives_the_next_call(tmp_path: Path) -> None:
    made = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["right"]), helper.make_node("Neg", ["x"], ["left"])],
        "two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 2]) for name in ("left", "right")],
    )
    path = tmp_path / "two.onnx"
    onnx.save(helper.make_model(made, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]), path)
    session = OpenVinoSession(path, threads=1)
    rows = np.array([[1.0, -2.0]], np.float32)
    left, right = session.all((rows,))
    session.all((rows * 4,))
    assert [port.name for port in session.outputs] == ["left", "right"]
    assert (left.tolist(), right.tolist()) == ([[-1.0, 2.0]], [[1.0, 0.0]])


def test_the_rows_that_are_given_stay_as_they_are(tmp_path: Path) -> None:
    rows = np.ones((2, 3), np.float32)
    rows.setflags(write=False)
    OpenVinoSession(layer(tmp_path / "model.onnx"), threads=1)((rows,))
    assert (rows == 1).all()


def test_the_same_batch_gives_the_same_bits_also_from_many_threads(tmp_path: Path) -> None:
    session = OpenVinoSession(layer(tmp_path / "model.onnx", width=64), threads=2)
    batches = [np.random.default_rng(seed).normal(0, 1, (1 + seed % 4, 64)).astype(np.float32) for seed in range(24)]
    alone = [session((rows,)) for rows in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda rows: session((rows,)), batches * 5))
    assert all(np.array_equal(found, alone[number % 24]) for number, found in enumerate(together))


REFUSED = """
import sys
from pathlib import Path
import numpy as np
from mlctl.errors import StepFailed
from mlctl.runtime.openvino_session import OpenVinoSession
try:
    OpenVinoSession(Path(sys.argv[1]), threads=1)((np.load(sys.argv[2]),))
except StepFailed as refusal:
    print(refusal)
"""


@pytest.mark.parametrize(
    "rows",
    [np.zeros((1, 4), np.float32), np.zeros((1, 3), np.float64), np.zeros(3, np.float32)],
    ids=["width", "dtype", "rank"],
)
def test_a_batch_that_does_not_fit_is_refused(tmp_path: Path, rows: npt.NDArray[Any]) -> None:
    path = layer(tmp_path / "model.onnx")
    np.save(tmp_path / "rows.npy", rows)
    # A process of its own: with this file's other tests in it, a later test of signals ended in a segmentation fault.
    command = [sys.executable, "-c", REFUSED, str(path), str(tmp_path / "rows.npy")]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert re.match(re.escape(str(path)) + r": .*cannot answer this batch: x is float\d\d \[", said)


@pytest.mark.parametrize("content", [None, b"", b"nonsense" * 10], ids=["missing", "empty", "nonsense"])
def test_no_graph_is_a_data_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as refusal:
        OpenVinoSession(path, threads=1)
    assert refusal.value.where == str(path)
    assert "\n" not in refusal.value.what
    assert "src/" not in refusal.value.what


def test_a_cut_off_file_is_a_data_error_that_says_so(tmp_path: Path) -> None:
    path = layer(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="cut off"):
        OpenVinoSession(path, threads=1)


@pytest.mark.parametrize(("old", "new"), [(b"x", b"\xf1"), (b"Relu", b"R\xf1lu")], ids=["port", "operator"])
def test_names_that_are_no_text_are_a_data_error(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = layer(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(DataError, match=r"OpenVINO cannot load this graph: .*\\xf1"):
        OpenVinoSession(path, threads=1)


def test_an_operator_that_openvino_does_not_have_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="it has no operator Nope") as refusal:
        OpenVinoSession(layer(tmp_path / "model.onnx", operator="Nope"), threads=1)
    assert "runtime: onnxruntime" in refusal.value.next


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "tensorrt", "gpu"])
def test_another_device_than_the_processor_is_no_such_device(tmp_path: Path, device: str) -> None:
    with pytest.raises(NoSuchDevice, match=device):
        open_graph(layer(tmp_path / "model.onnx"), runtime="openvino", threads=1, device=device)


def test_a_graph_is_opened_by_the_runtime_that_is_named(tmp_path: Path) -> None:
    path = layer(tmp_path / "model.onnx")
    assert open_graph(path, threads=1).name == "onnxruntime"
    assert open_graph(path, runtime="openvino", threads=1).name == "openvino"


def test_without_openvino_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = layer(tmp_path / "model.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert not has_openvino()
    with pytest.raises(MissingExtra) as refusal:
        open_graph(path, runtime="openvino", threads=1)
    assert "pip install 'mlctl-toolchain[openvino]'" in refusal.value.next


def test_nothing_is_written_anywhere(tmp_path: Path) -> None:
    good = layer(tmp_path / "good.onnx")
    for name, content in (("bad", good.read_bytes()[:-40]), ("text", b"nonsense" * 10)):
        (tmp_path / f"{name}.onnx").write_bytes(content)
    program = """
import numpy as np
from pathlib import Path
from mlctl.errors import DataError
from mlctl.runtime.opening import has_openvino, open_graph
from mlctl.runtime.openvino_session import OpenVinoSession
OpenVinoSession(Path("good.onnx"), threads=2)((np.zeros((1, 3), np.float32),))
for name in ("bad.onnx", "text.onnx"):
    try:
        OpenVinoSession(Path(name), threads=1)
    except DataError:
        pass
"""
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache"), "TMPDIR": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={**os.environ, **places, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert (ran.stdout, ran.stderr) == ("", "")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["bad.onnx", "good.onnx", "text.onnx"]
