"""A graph whose weights lie on disk answers as the graph that holds them, and holds none of them."""

import errno
import resource
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import convert_model_to_external_data

import mlctl
from mlctl.errors import DataError
from mlctl.graphs.outline import DATA_NAME, outline
from mlctl.runtime.session import OnnxSession


def chain(widths: list[int], *, is_raw: bool = True, with_bias: bool = True) -> onnx.ModelProto:
    """Rows [B, widths[0]] through matrices of these widths; the weights raw, or as lists of numbers."""
    dice = np.random.default_rng(len(widths))
    nodes, stored = [], []
    for number, (before, after) in enumerate(pairwise(widths)):
        inputs = [f"h{number}", f"w{number}", *([f"b{number}"] if with_bias else [])]
        nodes.append(helper.make_node("Gemm", inputs, [f"h{number + 1}"], f"gemm{number}"))
        weights = {f"w{number}": (before, after), **({f"b{number}": (after,)} if with_bias else {})}
        for name, shape in weights.items():
            values = dice.normal(size=shape).astype(np.float32)
            stored.append(
                numpy_helper.from_array(values, name)
                if is_raw
                else helper.make_tensor(name, TensorProto.FLOAT, shape, values.reshape(-1).tolist())
            )
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("h0", TensorProto.FLOAT, ["batch", widths[0]])],
        [helper.make_tensor_value_info(f"h{len(widths) - 1}", TensorProto.FLOAT, ["batch", widths[-1]])],
        stored,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"mlctl.task": "regression"})
    return model


def assert_same_answers(path: Path, folder: Path, width: int) -> onnx.ModelProto:
    """The outline of the graph at `path`, in a folder that is made."""
    folder.mkdir()
    found = outline(path, folder)
    (folder / "cut.onnx").write_bytes(found.SerializeToString())
    rows = (np.random.default_rng(1).normal(size=(4, width)).astype(np.float32),)
    expected = OnnxSession(path, threads=1)(rows)
    np.testing.assert_array_equal(OnnxSession(folder / "cut.onnx", threads=1)(rows), expected)
    return found


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 40), min_size=2, max_size=5), st.booleans(), st.booleans())
def test_an_outline_answers_as_the_graph_does(
    tmp_path_factory: pytest.TempPathFactory, widths: list[int], is_raw: bool, with_bias: bool
) -> None:
    tmp_path = tmp_path_factory.mktemp("chain")
    model = chain(widths, is_raw=is_raw, with_bias=with_bias)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    found = assert_same_answers(path, tmp_path / "outline", widths[0])
    outside = {each.name for each in found.graph.initializer if each.data_location == TensorProto.EXTERNAL}
    large = {each.name for each in model.graph.initializer if len(each.raw_data) > 1024}
    assert outside == large
    # All else is what it was.
    for each in found.graph.initializer:
        if each.name in outside:
            original = next(one for one in model.graph.initializer if one.name == each.name)
            assert not each.raw_data
            each.CopyFrom(original)
    assert found == model
    assert path.read_bytes() == model.SerializeToString()


def test_offsets_are_those_that_a_file_can_be_mapped_at(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(chain([30, 40, 50]).SerializeToString())
    found = outline(path, tmp_path)
    entries = [{each.key: each.value for each in one.external_data} for one in found.graph.initializer]
    assert [int(each["offset"]) % 4096 for each in entries if each] == [0, 0]
    assert {each["location"] for each in entries if each} == {DATA_NAME}


@pytest.mark.parametrize("location", ["model.onnx.data", "deeper/weights.bin"])
def test_data_that_were_outside_before_are_found(tmp_path: Path, location: str) -> None:
    model = chain([30, 40, 50])
    (tmp_path / location).parent.mkdir(exist_ok=True)
    convert_model_to_external_data(model, all_tensors_to_one_file=True, location=location, size_threshold=3000)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    before = {each: each.read_bytes() for each in tmp_path.rglob("*") if each.is_file()}
    assert_same_answers(path, tmp_path / "outline", 30)
    assert {each: each.read_bytes() for each in before} == before


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname"])
def test_data_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    model = chain([30, 40])
    (weight, _) = model.graph.initializer
    onnx.external_data_helper.set_external_data(weight, location, offset=0, length=4800)
    weight.ClearField("raw_data")
    (tmp_path / "deep").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4800))
    path = tmp_path / "deep" / "model.onnx"
    path.write_bytes(model.SerializeToString())
    (tmp_path / "outline").mkdir()
    with pytest.raises(DataError):
        outline(path, tmp_path / "outline")
    assert {each.name for each in (tmp_path / "outline").iterdir()} <= {DATA_NAME}


@pytest.fixture(scope="module")
def whole() -> bytes:
    content: bytes = chain([30, 40, 50]).SerializeToString()
    return content


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_that_is_cut_off_is_no_model(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Wherever it is cut, but between two fields of the model, where what is left is a model of less."""
    path = tmp_path / "model.onnx"
    length = data.draw(st.integers(0, len(whole) - 1))
    path.write_bytes(whole[:length])
    try:
        found = outline(path, tmp_path)
    except DataError:
        return
    assert found == onnx.ModelProto.FromString(whole[:length])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(min_size=1, max_size=200))
def test_nonsense_is_refused_or_read_as_protobuf_reads_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    try:
        found = outline(path, tmp_path)
    except DataError:
        return
    assert found.ByteSize() <= len(content)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff" * 40, b"\x0a\xff\xff\xff\xff\x7f", b"\x0b\x00", b"not a model at all"],
    ids=["empty", "long number", "long field", "group", "text"],
)
def test_known_nonsense_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(DataError, match="no ONNX model") as caught:
        outline(path, tmp_path)
    assert caught.value.where == str(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        outline(tmp_path / "none.onnx", tmp_path)


def test_a_folder_without_room_says_nothing_of_the_model(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(whole)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            outline(path, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG


MEMORY = """
import resource, sys
from pathlib import Path
from mlctl.graphs.outline import outline

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
outline(Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_does_not_hold_the_weights(tmp_path: Path) -> None:
    """Of 64 MB of weights; what sendfile reads is the system's cache and not the process's own."""
    path = tmp_path / "model.onnx"
    path.write_bytes(chain([2048, 4096, 2048], with_bias=False).SerializeToString())
    assert path.stat().st_size > 64_000_000
    (tmp_path / "outline").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, str(path), str(tmp_path / "outline")],
        cwd=Path(mlctl.__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 1024 * int(result.stdout) < 10_000_000
    assert (tmp_path / "outline" / DATA_NAME).stat().st_size >= 64_000_000
