"""What a graph from outside must pass, each refusal shown by a real file."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nets_for_graphs import export_conv_net
from onnx import TensorProto, helper, numpy_helper

from mlctl.errors import DataError
from mlctl.graphs.checking import check_graph, newest_operator_set
from mlctl.runtime.session import OnnxSession

Node = onnx.NodeProto


def model_of(
    nodes: Sequence[Node],
    *,
    opset: int = 20,
    weights: Sequence[TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    width: int = 2,
) -> onnx.ModelProto:
    """From x float [b, 2] to y float [b, width]."""
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["b", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["b", width])],
        weights,
    )
    sets = [helper.make_opsetid(domain, version) for domain, version in (("", opset), ("com.microsoft", 1), ("f", 1))]
    return helper.make_model(graph, opset_imports=sets, ir_version=8, functions=functions)


def saved(folder: Path, model: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def refusal_of(path: Path) -> str:
    """The refusal's text; nothing may have been left beside the files that were there."""
    before = sorted(path.parent.iterdir())
    with pytest.raises(DataError) as refusal:
        check_graph(path)
    assert sorted(path.parent.iterdir()) == before
    assert (refusal.value.where, refusal.value.exit_code) == (str(path), 3)
    assert refusal.value.next
    return refusal.value.what


def relu(source: str, target: str, name: str = "") -> Node:
    return helper.make_node("Relu", [source], [target], name)


def external(location: str, rows: int, length: str | None) -> TensorProto:
    """A float weight [2, rows] that lies in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, rows], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    if length is not None:
        tensor.external_data.add(key="length", value=length)
    return tensor


def test_an_exported_graph_passes_and_nothing_is_written(tmp_path: Path) -> None:
    exported = export_conv_net(tmp_path)
    model = check_graph(exported.path)
    assert [each.name for each in model.graph.input] == ["image"]
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]


FUNCTION = helper.make_function("f", "Twice", ["a"], ["c"], [relu("a", "c")], [helper.make_opsetid("", 20)])
SOUND = {
    "an operator of ONNX Runtime": model_of([helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")]),
    "a function of its own": model_of([helper.make_node("Twice", ["x"], ["y"], domain="f")], functions=[FUNCTION]),
    "the newest operator set": model_of([relu("x", "y")], opset=newest_operator_set()),
}


@pytest.mark.parametrize("name", SOUND)
def test_what_onnx_runtime_runs_passes(tmp_path: Path, name: str) -> None:
    path = saved(tmp_path, SOUND[name])
    check_graph(path)
    assert OnnxSession(path, threads=1)((np.ones((3, 2), np.float32),)).shape == (3, 2)


INNER = helper.make_graph(
    [helper.make_node("Add", ["x", "late"], ["t"])],
    "inner",
    [],
    [helper.make_tensor_value_info("t", TensorProto.FLOAT, ["b", 2])],
)
TRUTH = helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.array(True), "c"))
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "operator set of the future": (
        lambda: model_of([relu("x", "y")], opset=99),
        f"its operator set 99 is unknown; the newest that is known here is {newest_operator_set()}",
    ),
    "operator set 0": (lambda: model_of([relu("x", "y")], opset=0), "its operator set 0 is unknown"),
    "custom operators": (
        lambda: model_of([helper.make_node("Foo", ["x"], ["a"], domain="mine"), relu("a", "y")]),
        "neither ONNX nor ONNX Runtime knows these operators of it: mine::Foo (1×)",
    ),
    "an operator that ONNX never had": (lambda: model_of([helper.make_node("Rleu", ["x"], ["y"])]), "Rleu (1×)"),
    "a cycle": (
        lambda: model_of([helper.make_node("Add", ["x", "b"], ["a"], "one"), relu("a", "b", "two"), relu("b", "y")]),
        "its nodes wait for each other: one → two → one",
    ),
    "a cycle through a branch": (
        lambda: model_of(
            [
                TRUTH,
                helper.make_node("If", ["c"], ["y"], "choice", then_branch=INNER, else_branch=INNER),
                relu("y", "late", "again"),
            ]
        ),
        "its nodes wait for each other: choice → again → choice",
    ),
    "nodes before those that they need": (
        lambda: model_of([relu("a", "y"), relu("x", "a")]),
        "Nodes in a graph must be topologically sorted",
    ),
    "shapes that cannot be": (lambda: model_of([relu("x", "y")], width=3), "differ in dimension 1: (2) vs (3)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_refused_by_name(tmp_path: Path, name: str) -> None:
    build, message = REFUSED[name]
    assert message in refusal_of(saved(tmp_path, build()))


@pytest.mark.parametrize("content", [b"", b"nonsense" * 10, b"{}"], ids=["empty", "nonsense", "json"])
def test_what_is_no_protobuf_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert "no ONNX model" in (what := refusal_of(path)) or "no graph" in what


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "model.onnx") == "this file cannot be read (No such file or directory)"


def product(location: str, rows: int = 100, length: str | None = None) -> onnx.ModelProto:
    return model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], weights=[external(location, rows, length)], width=rows
    )


@pytest.mark.parametrize("location", ["../secret", "/etc/hostname", "inner/../../secret", "nowhere"])
def test_external_data_must_lie_in_the_models_folder(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    (folder / "inner").mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"\0" * 800)
    what = refusal_of(saved(folder, product(location)))
    assert what.endswith("is no file beside the model" if location == "nowhere" else "lies outside the model's folder")


def test_a_function_reaches_no_file_outside_either(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(b"\0" * 800)
    constant = helper.make_node("Constant", [], ["w"])
    constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR, t=external("../secret", 2, None))
    nodes = [constant, helper.make_node("MatMul", ["a", "w"], ["c"])]
    function = helper.make_function("f", "Twice", ["a"], ["c"], nodes, [helper.make_opsetid("", 20)])
    model = model_of([helper.make_node("Twice", ["x"], ["y"], domain="f")], functions=[function])
    assert "lies outside the model's folder" in refusal_of(saved(folder, model))


def test_external_data_must_be_whole(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"\0" * 799)
    what = refusal_of(saved(tmp_path, product("weights", length="800")))
    assert what == "external data 'weights' has 799 bytes, and 'w' ends after them"


@pytest.mark.parametrize("length", ["many", "-1"])
def test_external_data_must_have_a_place(tmp_path: Path, length: str) -> None:
    (tmp_path / "weights").write_bytes(b"\0" * 800)
    assert refusal_of(saved(tmp_path, product("weights", length=length))) == "the external data of 'w' has no place"


def test_one_protobuf_above_2_gib_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as stream:
        stream.truncate(2**31)
    assert refusal_of(path) == "one protobuf file holds at most 2 GiB"


def test_a_model_above_2_gib_passes_with_its_weights_beside_it(tmp_path: Path) -> None:
    rows = 300_000_000
    with (tmp_path / "weights").open("wb") as stream:
        stream.truncate(8 * rows)
    path = saved(tmp_path, product("weights", rows, length=str(8 * rows)))
    assert check_graph(path).graph.initializer[0].dims == [2, rows]


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), changes=st.integers(1, 4), share=st.floats(0, 1))
def test_damage_anywhere_is_a_refusal_or_harmless(tmp_path: Path, seed: int, changes: int, share: float) -> None:
    content = bytearray(SOUND["a function of its own"].SerializeToString())
    dice = random.Random(seed)
    for _ in range(changes):
        content[dice.randrange(len(content))] = dice.randrange(256)
    path = tmp_path / "model.onnx"
    path.write_bytes(content if share > 0.5 else content[: int(2 * share * len(content))])
    assert outcome(path) in ("sound", f"refused {path}")


def outcome(path: Path) -> str:
    try:
        return "sound" if check_graph(path).graph.node else "empty"
    except DataError as refusal:
        return f"refused {refusal.where}"
