"""The Open Inference Protocol v2, as the real tritonclient speaks it from another process."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from v2_harness import LABELS, WEIGHTS, served, small_catalogue
from v2_tensors import DTYPES, ROWS, TEXTS, tensors

from mlctl.serving.guards.tokens import Scopes, create_token

EXPECTED = ROWS @ (WEIGHTS * 2)
"""Of version 2. Everything is a multiple of 1/4 below 2**10, so that float32 sums it exactly, in whatever order."""


@dataclass(frozen=True)
class Visit:
    """What the client was told, and what the server's event loop was."""

    told: dict[str, Any]
    arrays: dict[str, npt.NDArray[Any]]
    bugs: list[str]


@pytest.fixture(scope="module")
def visit(tmp_path_factory: pytest.TempPathFactory) -> Visit:
    folder = tmp_path_factory.mktemp("visit")
    token = create_token(folder / "tokens.json", "tester", Scopes(is_admin=True))
    into = folder / "came.npz"
    with served(small_catalogue(), folder / "tokens.json") as (port, bugs):
        script = Path(__file__).with_name("v2_triton_client.py")
        command = [sys.executable, str(script), str(port), token, str(into)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    with np.load(into) as came:
        arrays = {name: came[name] for name in came.files}
    return Visit(json.loads(str(arrays.pop("told"))), arrays, bugs)


def test_the_server_says_of_itself_what_is_true(visit: Visit) -> None:
    assert (visit.told["live"], visit.told["ready"]) == (True, True)
    server = visit.told["server"]
    assert server["name"] == "mlctl"
    assert server["extensions"] == [
        "binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics",
    ]  # fmt: skip
    assert visit.told["model ready"] == [True, True, False]


def test_a_model_is_described_with_its_versions_and_open_sizes(visit: Visit) -> None:
    assert visit.told["metadata"] == {
        "name": "linear",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
        "outputs": [
            {"name": "scores", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "best", "datatype": "INT64", "shape": [-1]},
        ],
    }
    assert visit.told["metadata of 1"] == {**visit.told["metadata"], "versions": ["1"]}
    configuration = visit.told["configuration"]
    assert (configuration["max_batch_size"], configuration["platform"]) == (64, "onnxruntime_onnx")
    assert configuration["input"] == [{"name": "x", "data_type": "TYPE_FP32", "dims": [4]}]
    assert configuration["output"][1] == {
        "name": "best", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []},
    }  # fmt: skip


@pytest.mark.parametrize("form", ["binary", "json", "mixed", "gzip", "deflate", "ignored"])
def test_every_form_of_a_request_gives_the_same_answer(visit: Visit, form: str) -> None:
    assert visit.arrays[f"{form} scores"].dtype == np.float32
    np.testing.assert_array_equal(visit.arrays[f"{form} scores"], EXPECTED)
    np.testing.assert_array_equal(visit.arrays[f"{form} best"], EXPECTED.argmax(axis=1))
    said = {"model_name": "linear", "model_version": "2", **({"id": "seven"} if form == "binary" else {})}
    assert visit.told[form] == said


def test_the_version_that_is_named_answers(visit: Visit) -> None:
    np.testing.assert_array_equal(visit.arrays["version 1 scores"], EXPECTED / 2)
    assert visit.told["version 1"]["model_version"] == "1"


def test_callers_at_the_same_time_get_their_own_answers(visit: Visit) -> None:
    for k in range(8):
        np.testing.assert_array_equal(visit.arrays[f"asynchronous {k}"], EXPECTED * k)


def test_classes_come_with_value_place_and_label_the_highest_first(visit: Visit) -> None:
    assert visit.told["classes' shape"] == [2, 2]
    order = np.argsort(-EXPECTED, axis=1)[:, :2]
    wanted = [f"{EXPECTED[row, place]}:{place}:{LABELS[place]}" for row in range(2) for place in order[row]]
    assert visit.told["classes"] == wanted


@pytest.mark.parametrize("form", ["binary", "json"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_edges_of_every_dtype_come_back_bit_for_bit(visit: Visit, form: str, dtype: str) -> None:
    sent, came = tensors()[f"in_{dtype}"], visit.arrays[f"echo {form} {dtype}"]
    assert came.dtype == sent.dtype
    np.testing.assert_array_equal(came, sent)


@pytest.mark.parametrize("form", ["binary", "json"])
def test_texts_come_back_character_for_character(visit: Visit, form: str) -> None:
    assert visit.told[f"texts {form}"] == TEXTS.ravel().tolist()


def test_statistics_count_what_was_asked(visit: Visit) -> None:
    (found,) = visit.told["statistics"]["model_stats"]
    # Six forms, eight at once and one with classes, of two rows each; the others were refused or of version 1.
    assert (found["name"], found["version"], found["inference_count"], found["execution_count"]) == (
        "linear",
        "2",
        30,
        15,
    )
    spent = found["inference_stats"]
    assert spent["success"]["count"] == spent["queue"]["count"] == spent["compute_infer"]["count"] == 15
    assert 0 < spent["compute_infer"]["ns"] < 60e9
    (batches,) = found["batch_stats"]
    assert (batches["batch_size"], batches["compute_infer"]["count"]) == (2, 15)
    assert found["last_inference"] > 1.7e12
    assert visit.told["statistics of all"] == [
        ["echo", "1"], ["fixed", "1"], ["linear", "1"], ["linear", "2"], ["texts", "1"],
    ]  # fmt: skip


def test_models_are_let_go_and_loaded_again(visit: Visit) -> None:
    assert {"name": "linear", "version": "2", "state": "READY", "reason": ""} in visit.told["index"]
    assert len(visit.told["index"]) == 5
    gone = {"name": "linear", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"}
    assert gone in visit.told["index without it"]
    assert (visit.told["unloaded"], visit.told["loaded"]) == (False, True)


def test_every_refusal_has_its_status_and_says_why(visit: Visit) -> None:
    expected = {
        "load without a token": ("401", "token"),
        "load with files": ("400", "'config' cannot be taken"),
        "load of nothing": ("404", "no model 'nothing'"),
        "no such model": ("404", "no model 'nothing'"),
        "wrong dtype": ("400", "input 'x' takes FP32, not 'FP64'"),
        "wrong shape": ("400", "input 'x' takes the shape [-1, 4], not [2, 3]"),
        "no such input": ("400", "the model has no input 'y'; it takes 'x'"),
        "no rows": ("400", "input 'x' has nothing in it: a size of its shape [0, 4] is 0"),
    }
    found = visit.told["refusals"]
    assert found.keys() == expected.keys()
    for name, (status, what) in expected.items():
        assert found[name][0] == status
        assert what in found[name][1]


def test_nothing_went_wrong_inside_the_server(visit: Visit) -> None:
    assert visit.bugs == []
