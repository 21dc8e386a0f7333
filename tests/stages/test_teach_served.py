"""Served teachers through the real engine: answers over a real line, and a server that goes away in the middle."""

from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import Lab
from inference_servers import Act, InferenceWorld, Served, as_usual, refusing, serving
from schools import NAME, School, figures, outcome, softmax

from mlctl.compression.distillation import answering
from mlctl.data.remote_retrying import Patience
from mlctl.engine.store import Store
from mlctl.errors import DiskFull
from mlctl.events import Note

Rows = npt.NDArray[Any]
WEIGHTS = 0.05 * np.tile(np.array([[1.0, -1.0]]), (16, 1)) * np.tile([1, 1, -1, -1], 4)[:, None]


def sides(rows: Rows) -> Rows:
    """Probabilities of the two classes, by the brightness of the sides of raw pixels."""
    return softmax(rows.reshape(len(rows), 16) @ WEIGHTS).astype(np.float32)


PIXELS = Served(sides, ("pixels", "uint8", [-1, 1, 4, 4]), ("probabilities", "float32", [-1, 2]))


@pytest.fixture
def school(finished_lab: Lab, monkeypatch: pytest.MonkeyPatch) -> School:
    """A school that does not wait between attempts, and asks for few rows at once."""
    quick = Patience(attempts=3, silence=10.0, pause=lambda seconds: None)
    monkeypatch.setattr("mlctl.compression.distillation.served_model.ServedModel.__init__.__defaults__", (quick,))
    monkeypatch.setattr(answering, "BATCH", 8)
    return School(finished_lab)


def expected(school: School) -> Rows:
    (images,) = school.data.split("train").inputs
    return sides(images)


@pytest.mark.parametrize("is_binary", [True, False])
def test_a_served_models_answers_are_kept_with_its_version(school: School, is_binary: bool) -> None:
    with serving(InferenceWorld(PIXELS, is_binary, version="7")) as world:
        verdict = school.ask(world.url)
        assert verdict.failures == ()
        asked = len(world.batches)
        assert outcome(school.ask(world.url)) == "reused"
        assert len(world.batches) == asked
    np.testing.assert_allclose(softmax(school.answers.arrays[0]), expected(school), atol=2**-8)
    assert school.choices["teacher"] == f"net version 7 on onnxruntime_onnx at {world.url}"
    assert school.choices["teacher_tensors"] == ("as bytes" if is_binary else "as JSON")
    assert figures(verdict)["validation_accuracy"].value > 0.8


def dying_after(count: int) -> list[Act]:
    """So many answers, and then nothing but refusals."""
    return [*[as_usual] * count, *[refusing(503)] * 50]


def test_a_teacher_that_goes_away_in_the_middle_is_gone_on_with(school: School) -> None:
    rows = len(school.data.split("train"))
    with serving(InferenceWorld(PIXELS)) as world:
        school.ask(world.url)
        whole = (school.folder / "logits.npy").read_bytes()
        looked = len(world.batches) - -(-rows // 8)
    with serving(InferenceWorld(PIXELS, script=deque(dying_after(looked + 2)))) as world:
        verdict = school.ask(world.url)
        assert verdict.exit_code == 5
        (failure,) = verdict.failures
        assert failure.what == (
            f"the server answers 503 Service Unavailable (not now [31m); tried 3 times; 16 of {rows} rows are answered"
        )
        assert failure.next == "run the same command again when it is back; it goes on from there"
        assert any(isinstance(each, Note) and "attempt 3 of 3" in each.text for each in school.told)
        world.script.clear()
        before = len(world.batches)
        assert outcome(school.ask(world.url)) == "resumed"
        assert sum(world.batches[before + looked :]) == rows - 16
    assert (school.folder / "logits.npy").read_bytes() == whole


def test_answers_that_could_not_be_published_are_not_asked_for_again(
    school: School, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = len(school.data.split("train"))

    def full(*_: object) -> None:
        raise DiskFull("the disk is full")

    with serving(InferenceWorld(PIXELS)) as world:
        with monkeypatch.context() as patched:
            patched.setattr(Store, "publish", full)
            assert school.ask(world.url).exit_code == 5
        asked = sum(world.batches)
        assert outcome(school.ask(world.url)) == "resumed"
        # All but the train split is looked at again: held-out rows, and one row for its shape.
        assert sum(world.batches) - asked == asked - rows
    np.testing.assert_allclose(softmax(school.answers.arrays[0]), expected(school), atol=2**-8)


def test_where_a_file_has_but_one_name_its_copy_is_published(school: School, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    with serving(InferenceWorld(PIXELS)) as world:
        assert school.ask(world.url).failures == ()
        linked = (school.folder / "logits.npy").read_bytes()
        monkeypatch.setattr("os.link", refuse)
        assert outcome(school.ask(world.url, forced=[NAME])) == "ran"
    assert (school.folder / "logits.npy").read_bytes() == linked


def test_answers_of_another_version_are_not_gone_on_with(school: School) -> None:
    rows = len(school.data.split("train"))
    with serving(InferenceWorld(PIXELS)) as world:
        world.script = deque(dying_after(5))
        while (verdict := school.ask(world.url)).exit_code == 5 and "rows are answered" not in verdict.failures[0].what:
            world.script = deque(dying_after(len(world.batches)))
        world.script.clear()
        world.version = "2"
        before = len(world.batches)
        assert school.ask(world.url).failures == ()
        assert sum(world.batches[before:]) >= rows
    assert "version 2" in school.choices["teacher"]


def test_a_server_that_is_not_there_is_the_machines_fault(school: School) -> None:
    with serving(InferenceWorld(PIXELS)) as world:
        url = world.url
    verdict = school.ask(url)
    assert verdict.exit_code == 5
    assert verdict.failures[0].what == "the server refuses or closes the connection; tried 3 times"


def test_a_server_that_wants_scaled_numbers_is_given_them(school: School) -> None:
    wanting = Served(
        lambda rows: rows.reshape(len(rows), 16) @ (16 * WEIGHTS).astype(np.float32),
        ("pixels", "float32", [-1, 1, 4, 4]),
        ("scores", "float32", [-1, 2]),
    )
    with serving(InferenceWorld(wanting)) as world:
        assert school.ask(world.url).failures == ()
    assert school.choices["teacher_inputs"].startswith("scaled: log_loss on held-out rows")
    np.testing.assert_allclose(softmax(school.answers.arrays[0]), expected(school), atol=2**-8)


def shaped(*shape: int) -> Callable[[Rows], Rows]:
    return lambda rows: np.zeros((len(rows), *shape), np.float32)


@pytest.mark.parametrize(
    ("served", "what"),
    [
        (Served(shaped(3), PIXELS.input, ("y", "float32", [-1, 3])), "answers with the shape [3] for every row"),
        (Served(shaped(2), ("pixels", "uint8", [-1, 16]), PIXELS.output), "the graph takes 'pixels' of uint8 [?, 16]"),
        (Served(shaped(2), ("pixels", "BYTES", [-1, 1, 4, 4]), PIXELS.output), "'pixels' of no numbers"),
        (Served(shaped(2), ("pixels", "int64", [-1, 3, 4, 4]), PIXELS.output), "'pixels' of int64 [?, 3, 4, 4]"),
    ],
)
def test_a_served_model_that_does_not_fit_is_refused(school: School, served: Served, what: str) -> None:
    with serving(InferenceWorld(served)) as world:
        verdict = school.ask(world.url)
        assert verdict.exit_code == 3
        assert what in verdict.failures[0].what
        assert verdict.failures[0].where == world.url


def test_a_server_says_itself_how_long_to_wait(school: School) -> None:
    with serving(InferenceWorld(PIXELS, script=deque([refusing(503, **{"Retry-After": "3"})]))) as world:
        assert school.ask(world.url).failures == ()
    (note,) = [each.text for each in school.told if isinstance(each, Note)]
    assert note.endswith("the server answers 503 Service Unavailable (not now [31m); attempt 2 of 3 in 3.0 s")
