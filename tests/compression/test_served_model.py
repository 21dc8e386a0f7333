"""Served models over a real line: both encodings, batches, and everything that a server can do wrong."""

import threading
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from inference_servers import (
    Act,
    InferenceHandler,
    InferenceWorld,
    Served,
    as_usual,
    hanging_up,
    refusing,
    saying,
    serving,
)

from mlctl.compression.distillation.served_model import ServedModel
from mlctl.data.remote_retrying import Patience
from mlctl.errors import DataError, MachineError
from mlctl.events import Event, Note
from mlctl.runtime.served_address import ServedAddress

ROWS = np.arange(20, dtype=np.float32).reshape(10, 2)


def doubled(rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return rows.astype(np.float32) * 2 + 1


DOUBLING = Served(doubled, ("x", "float32", [-1, 2]), ("y", "float32", [-1, 2]))


@dataclass
class Asker:
    """Who asks, without waiting."""

    pauses: list[float] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    def model(self, url: str, attempts: int = 5, silence: float = 30.0) -> ServedModel:
        patience = Patience(attempts, silence, pause=self.pauses.append, chance=lambda: 1.0)
        return ServedModel(ServedAddress.parse(url), self.told.append, patience)

    @property
    def notes(self) -> list[str]:
        return [each.text for each in self.told if isinstance(each, Note)]


@pytest.fixture
def asker() -> Asker:
    return Asker()


@pytest.mark.parametrize("is_binary", [True, False])
def test_either_encoding_brings_the_models_answers(asker: Asker, is_binary: bool) -> None:
    with serving(InferenceWorld(DOUBLING, is_binary)) as world:
        model = asker.model(world.url)
        np.testing.assert_array_equal(model((ROWS,)), doubled(ROWS))
        assert model.is_binary == is_binary
        assert model.version == "1"
        assert str(model) == f"net version 1 on onnxruntime_onnx at {world.url}"
    assert world.paths == ["/v2/models/net", "/v2", "/v2/models/net/infer"]
    assert asker.notes == []


def test_a_server_that_says_nothing_of_itself_is_asked_in_json(asker: Asker) -> None:
    with serving(InferenceWorld(DOUBLING, is_binary=False, tells_of_itself=False)) as world:
        model = asker.model(world.url)
        np.testing.assert_array_equal(model((ROWS,)), doubled(ROWS))
        assert not model.is_binary


def test_a_version_is_asked_by_its_own_address(asker: Asker) -> None:
    with serving(InferenceWorld(DOUBLING)) as world:
        np.testing.assert_array_equal(asker.model(f"{world.url}/versions/1")((ROWS,)), doubled(ROWS))
    assert world.paths == ["/v2/models/net/versions/1", "/v2", "/v2/models/net/versions/1/infer"]


@pytest.mark.parametrize(("most", "batches"), [(None, [64, 36]), (40, [32, 32, 32, 4]), (1, [1] * 100)])
def test_batches_that_are_too_large_are_halved_until_they_fit(
    asker: Asker, most: int | None, batches: list[int]
) -> None:
    rows = np.arange(200, dtype=np.float32).reshape(100, 2)
    with serving(InferenceWorld(DOUBLING, most_rows=most)) as world:
        np.testing.assert_array_equal(asker.model(world.url)((rows,)), doubled(rows))
        assert world.batches == batches


def test_a_model_that_takes_a_fixed_number_of_rows_is_given_that_many(asker: Asker) -> None:
    fixed = Served(doubled, ("x", "float32", [4, 2]), ("y", "float32", [4, 2]))
    with serving(InferenceWorld(fixed)) as world:
        np.testing.assert_array_equal(asker.model(world.url)((ROWS,)), doubled(ROWS))
        assert world.batches == [4, 4, 4]


@pytest.mark.parametrize("act", [refusing(503, **{"Retry-After": "7"}), refusing(500), hanging_up])
def test_what_goes_away_by_itself_is_tried_again(asker: Asker, act: Act) -> None:
    with serving(InferenceWorld(DOUBLING, script=deque([act]))) as world:
        np.testing.assert_array_equal(asker.model(world.url)((ROWS,)), doubled(ROWS))
    (note,) = asker.notes
    assert "attempt 2 of 5" in note
    assert "\x1b" not in note
    assert asker.pauses == [7.0 if "503" in note else 1.0]


def test_a_server_that_does_not_come_back_is_the_machines_fault(asker: Asker) -> None:
    with serving(InferenceWorld(DOUBLING)) as world:
        model = asker.model(world.url, attempts=3)
    with pytest.raises(MachineError) as refusal:
        model((ROWS,))
    assert refusal.value.exit_code == 5
    assert refusal.value.what == "the server refuses or closes the connection; tried 3 times"
    assert refusal.value.where == world.url
    assert asker.pauses == [1.0, 2.0]


def test_silence_ends(asker: Asker) -> None:
    over = threading.Event()

    def stall(handler: InferenceHandler) -> None:
        over.wait(60)
        as_usual(handler)

    with serving(InferenceWorld(DOUBLING, script=deque([stall]))) as world:
        with pytest.raises(MachineError, match=r"said nothing for 0\.2 s; tried 1 time"):
            asker.model(world.url, attempts=1, silence=0.2)((ROWS,))
        over.set()


def answer(**changes: object) -> Act:
    """The right numbers, described otherwise."""
    return lambda handler: handler.tell(handler.world.served.answers(handler.rows()), **changes)


@pytest.mark.parametrize(
    ("act", "what"),
    [
        (saying(b"hello"), "its answer is no JSON"),
        (saying(b'{"outputs": []}'), "its answer has no output 'y'"),
        (answer(name="z"), "its answer has no output 'y'"),
        (answer(shape=[10, 3]), "which are not FP32"),
        (answer(shape=[5, 4]), r"its output 'y' is float32 \[5, 4\], not float32 \[10, 2\]"),
        (answer(shape=[20]), r"its output 'y' is float32 \[20\], not float32 \[10, 2\]"),
        (answer(datatype="INT32"), r"its output 'y' is int32 \[10, 2\], not float32 \[10, 2\]"),
        (refusing(400), r"answers 400 Bad Request \(not now .31m\)"),
        (refusing(403), "answers 403 Forbidden"),
        (refusing(404), "answers 404 Not Found"),
        (refusing(302, Location="http://127.0.0.1:1/"), "answers 302 Found"),
    ],
)
def test_nonsense_is_the_datas_fault(asker: Asker, act: Act, what: str) -> None:
    with serving(InferenceWorld(DOUBLING, script=deque([act] * 9))) as world:
        model = asker.model(world.url)
        with pytest.raises(DataError, match=what) as refusal:
            model((ROWS,))
    assert refusal.value.exit_code == 3
    assert refusal.value.where == world.url


def test_a_model_that_is_not_there_is_said_so(asker: Asker) -> None:
    with serving(InferenceWorld(DOUBLING)) as world:
        with pytest.raises(DataError, match=r"answers 404 Not Found \(unknown model\)"):
            asker.model(world.url + "2")
        with pytest.raises(DataError, match="answers 404 Not Found"):
            asker.model(f"http://127.0.0.1:{world.port}/elsewhere/v2/models/net")


@pytest.mark.parametrize(
    ("served", "what"),
    [
        (Served(doubled, ("x", "float32", [-1, 2]), ("y", "int64", [-1, 2])), "gives no output of floating-point"),
        (Served(doubled, ("x", "float32", [-1, 2]), ("y", "BYTES", [-1, 2])), "gives no output of floating-point"),
        (Served(doubled, ("x", "float32", None), ("y", "float32", [-1])), "the model's inputs is not of the protocol"),  # type: ignore[arg-type]
    ],
)
def test_a_model_without_numbers_is_refused_before_it_is_asked(asker: Asker, served: Served, what: str) -> None:
    with serving(InferenceWorld(served)) as world, pytest.raises(DataError, match=what):
        asker.model(world.url)


def test_another_version_in_the_middle_is_never_mixed_in(asker: Asker) -> None:
    with serving(InferenceWorld(DOUBLING)) as world:
        model = asker.model(world.url)
        model((ROWS,))
        before = model.identity
        world.version = "2"
        with pytest.raises(MachineError, match="version '2' of the model answers now, and '1' did before"):
            model((ROWS,))
        later = asker.model(world.url)
        later((ROWS,))
        assert later.identity != before
