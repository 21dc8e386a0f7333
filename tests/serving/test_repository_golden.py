"""Golden requests: what is recorded, what is taken for right, and what is not."""

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from published_models import graph_bytes, rows

from mlctl.errors import ArtifactDamaged, DataError
from mlctl.runtime.answers import Arrays
from mlctl.runtime.opening import has_openvino, open_graph
from mlctl.runtime.session import OnnxSession
from mlctl.serving.repository.golden import Golden, GoldenRequest, coarseness
from mlctl.serving.repository.golden_recording import LEAST, MOST, record_golden


def golden_of(*answers: list[float], tolerance: float = 1e-3) -> Golden:
    """One request for every answer; each request is its own number."""
    return Golden(
        tuple(
            GoldenRequest((np.array([[number]], np.float32),), (np.array([answer], np.float32),))
            for number, answer in enumerate(answers)
        ),
        ("p",),
        tolerance,
        "argmax",
    )


def check(golden: Golden, *answers: list[float]) -> str | None:
    return golden.check(lambda inputs: (np.array([answers[int(inputs[0][0, 0])]], np.float32),))


def test_the_recorded_answers_are_those_of_every_row_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_bytes())
    (held_out,) = rows(40)
    golden, why = record_golden(path, (held_out,), decision="argmax")
    session = OnnxSession(path, threads=1)
    # Sixteen of forty rows, from the first to the last, none twice.
    places = [int(np.flatnonzero((held_out == each.inputs[0]).all(axis=1))[0]) for each in golden.requests]
    assert (places[0], places[-1], len(set(places))) == (0, 39, 16)
    assert {2, 3} == set(np.diff(places).tolist())
    for place, request in zip(places, golden.requests, strict=True):
        assert np.array_equal(request.outputs[0], session((held_out[place : place + 1],)))
    assert golden.tolerance == LEAST["float"]
    assert why.startswith("float numbers; ")


def test_a_golden_file_gives_back_what_was_saved_and_the_same_bytes(tmp_path: Path) -> None:
    golden = golden_of([0.1, 0.9], [0.5, 0.5])
    contents = set()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        golden.save(tmp_path / name)
        contents.add((tmp_path / name / "golden.safetensors").read_bytes())
    assert len(contents) == 1
    loaded = Golden.load(tmp_path / "a")
    assert (loaded.output_names, loaded.tolerance, loaded.decision) == (("p",), 1e-3, "argmax")
    for one, other in zip(loaded.requests, golden.requests, strict=True):
        assert np.array_equal(one.inputs[0], other.inputs[0])
        assert np.array_equal(one.outputs[0], other.outputs[0])


@given(st.binary(max_size=200), st.integers(0, 400))
def test_no_golden_file_is_a_crash(tmp_path_factory: pytest.TempPathFactory, noise: bytes, place: int) -> None:
    folder = tmp_path_factory.getbasetemp()
    golden_of([0.1, 0.9]).save(folder)
    path = folder / "golden.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[:place] + noise)
    try:
        loaded = Golden.load(folder)
    except ArtifactDamaged:
        return
    assert loaded.requests


def test_an_answer_within_the_tolerance_is_right_and_one_beyond_it_is_not() -> None:
    golden = golden_of([0.2, 0.8], [0.7, 0.3])
    assert check(golden, [0.2, 0.8], [0.7, 0.3]) is None
    assert check(golden, [0.2004, 0.7996], [0.7, 0.3]) is None
    why = check(golden, [0.2, 0.8], [0.72, 0.28])
    assert why == "golden request 2 of 2: output 'p' is off by 0.025 of its largest number, and 0.001 is allowed"


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_a_difference_is_measured_by_the_size_of_the_answers(scale: float) -> None:
    golden = golden_of([1 * scale], [10 * scale])
    assert check(golden, [1 * scale], [10.009 * scale]) is None
    assert check(golden, [1 * scale], [10.02 * scale]) is not None
    assert check(golden, [1.02 * scale], [10 * scale]) is not None


def test_another_choice_is_wrong_unless_the_two_best_are_nearer_than_the_tolerance() -> None:
    golden = golden_of([0.5, 0.495, 0.005], tolerance=0.02)
    assert check(golden, [0.497, 0.498, 0.005]) is None
    clear = golden_of([0.505, 0.49, 0.005], tolerance=0.02)
    assert check(clear, [0.497, 0.498, 0.005]) == "golden request 1 of 1: output 'p' chooses another one"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (np.array([[np.nan, 0.9]], np.float32), "off by inf"),
        (np.array([[0.1, np.inf]], np.float32), "off by inf"),
        (np.array([[0.1, 0.9]], np.float64), "is float64"),
        (np.array([[0.1, 0.9, 0.0]], np.float32), r"\[1, 3\]"),
        (np.array([0.1, 0.9], np.float32), r"\[2\]"),
    ],
)
def test_an_answer_of_another_kind_is_wrong(
    answer: "np.ndarray[tuple[int, ...], np.dtype[np.float32]]", why: str
) -> None:
    golden = golden_of([0.1, 0.9])
    found = golden.check(lambda _: (answer,))
    assert found is not None
    assert re.search(why, found)
    assert golden.check(lambda _: ()) == "golden request 1 of 1: 0 outputs came, and 1 are expected"


def test_numbers_that_are_not_finite_are_right_where_they_were_so_before() -> None:
    golden = golden_of([np.nan, np.inf, 1.0])
    assert check(golden, [np.nan, np.inf, 1.0]) is None
    assert check(golden, [np.nan, -np.inf, 1.0]) is not None


@given(st.floats(1e-6, 0.09), st.integers(0, 2**32 - 1))
def test_noise_below_the_tolerance_passes_and_twice_the_tolerance_does_not(tolerance: float, seed: int) -> None:
    dice = np.random.default_rng(seed)
    answer = dice.random(8)
    answer[0] = 1.0 + 4 * tolerance  # the choice is clear, and the largest number known
    golden = golden_of(answer.tolist(), tolerance=tolerance)
    within = answer + dice.uniform(-0.9, 0.9, 8) * tolerance
    assert check(golden, within.tolist()) is None
    beyond = answer.copy()
    beyond[int(dice.integers(8))] -= 2.1 * tolerance * answer[0]
    assert check(golden, beyond.tolist()) is not None


class Rows(CalibrationDataReader):  # type: ignore[misc]
    """Rows for ONNX Runtime's own calibration."""

    def __init__(self) -> None:
        self._rows = iter([{"x": row[None]} for row in rows(40)[0]])

    def get_next(self) -> "dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]] | None":
        return next(self._rows, None)


def test_integers_may_be_a_few_steps_off_and_no_more(tmp_path: Path) -> None:
    (tmp_path / "float.onnx").write_bytes(graph_bytes())
    path = tmp_path / "integers.onnx"
    quantize_static(
        tmp_path / "float.onnx", path, Rows(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8
    )
    golden, why = record_golden(path, rows(), decision="argmax")
    assert LEAST["integer"] <= golden.tolerance <= MOST
    assert why.startswith("integer numbers; ")
    # The same integers, computed as they are written: floats between roundings.
    assert golden.check(OnnxSession(path, threads=1, is_optimized=False).all) is None
    (tmp_path / "other.onnx").write_bytes(graph_bytes(1.5))
    assert golden.check(OnnxSession(tmp_path / "other.onnx", threads=1).all) is not None


def texts_graph(path: Path, length: int | str, width: int = 8) -> None:
    """tokens int64 [batch, length] to numbers float32 [batch, length, width]: rows of a table."""
    table = np.random.default_rng(1).standard_normal((32, width)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "tokens"], ["logits"])],
        "g",
        [helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", length])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", length, width])],
        [numpy_helper.from_array(table, "table")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def lengths(golden: Golden) -> list[int]:
    return [request.inputs[0].shape[1] for request in golden.requests]


def test_texts_are_of_different_lengths_where_the_graph_leaves_them_open(tmp_path: Path) -> None:
    tokens: Arrays = (np.arange(20 * 12, dtype=np.uint8).reshape(20, 12) % 32,)
    texts_graph(tmp_path / "open.onnx", "length")
    found = lengths(record_golden(tmp_path / "open.onnx", tokens, decision="argmax")[0])
    assert (found[0], found[-1], len(found)) == (1, 12, 16)
    assert found == sorted(found)
    assert set(found) == set(range(1, 13))
    texts_graph(tmp_path / "fixed.onnx", 12)
    assert lengths(record_golden(tmp_path / "fixed.onnx", tokens, decision="argmax")[0]) == [12] * 16


def test_golden_answers_do_not_outweigh_the_model(tmp_path: Path) -> None:
    """A width of 50,000 numbers a token, as a large vocabulary has: 16 whole texts would take 100 MB."""
    tokens: Arrays = (np.zeros((20, 32), np.int64),)
    texts_graph(tmp_path / "open.onnx", "length", width=50_000)
    found, _ = record_golden(tmp_path / "open.onnx", tokens, decision="argmax")
    assert sum(each.outputs[0].nbytes for each in found.requests) <= 16 << 20
    texts_graph(tmp_path / "fixed.onnx", 32, width=50_000)
    fixed, _ = record_golden(tmp_path / "fixed.onnx", tokens, decision="argmax")
    assert lengths(fixed) == [32] * 2


def test_without_rows_there_is_nothing_to_record(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(graph_bytes())
    with pytest.raises(DataError, match="no held-out rows"):
        record_golden(tmp_path / "model.onnx", (np.zeros((0, 4), np.float32),), decision="argmax")
    few, _ = record_golden(tmp_path / "model.onnx", rows(3), decision="argmax")
    assert len(few.requests) == 3


def test_a_coarser_runtime_is_allowed_what_its_numbers_cost_and_no_more() -> None:
    golden = golden_of([0.2, 0.8], tolerance=1e-4)
    assert check(golden, [0.205, 0.795]) is not None
    allowed = coarseness("openvino", "cpu")
    assert golden.check(lambda _: (np.array([[0.205, 0.795]], np.float32),), coarseness=allowed) is None
    assert golden.check(lambda _: (np.array([[0.23, 0.77]], np.float32),), coarseness=allowed) is not None
    assert coarseness("onnxruntime", "cpu") == 0.0


@pytest.mark.skipif(not has_openvino(), reason="OpenVINO is not installed")
def test_openvino_answers_the_golden_requests_of_onnx_runtime(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph_bytes())
    golden, _ = record_golden(path, rows(), decision="argmax")
    running = open_graph(path, runtime="openvino", threads=1)
    assert golden.check(lambda inputs: (running(inputs),), coarseness=coarseness("openvino", "cpu")) is None
