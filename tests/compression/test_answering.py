"""A teacher's answers as files: whole, resumable at any instant, and refused where they are damaged."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from answering_process import BATCH, Slow, save
from hypothesis import given, settings
from hypothesis import strategies as st

from mlctl.compression.distillation.answer_files import PROGRESS_FILE, AnswerDescription, Answers, answer_writer
from mlctl.compression.distillation.answer_forms import AnswerForm
from mlctl.compression.distillation.answering import Asking, save_answers
from mlctl.compression.distillation.teacher import Inputs
from mlctl.data.description import DataDescription, Field, Scaling
from mlctl.data.prepared import PreparedData
from mlctl.errors import ArtifactDamaged, MachineError, StepFailed
from mlctl.events import Event, Progress

ROWS = 42
PROCESS = Path(__file__).with_name("answering_process.py")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of rows with one number, 0 to 41, and two classes."""
    folder = tmp_path_factory.mktemp("data")
    description = DataDescription(
        task="image-classification",
        inputs=(Field("image", "uint8", (1, 1, 1)),),
        input_scaling=(Scaling(),),
        target=Field("y", "int64", ()),
        target_scaling=Scaling(),
        labels=("x", "y"),
        rows=dict.fromkeys(("train", "validation", "test"), ROWS),
    )
    for split in description.rows:
        (folder / split).mkdir()
        np.save(folder / split / "image.npy", np.arange(ROWS, dtype=np.uint8).reshape(ROWS, 1, 1, 1))
        np.save(folder / split / "target.npy", np.arange(ROWS, dtype=np.int64) % 2)
        np.save(folder / split / "row.npy", np.arange(ROWS))
    description.save(folder)
    return folder


EXPECTED = np.stack([np.zeros(ROWS), -2.0 * np.arange(ROWS)], 1).astype(np.float16)


def logits(folder: Path) -> np.ndarray:
    return np.asarray(np.load(folder / "logits.npy", allow_pickle=False))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_teacher_goes_on_and_ends_in_the_same_bytes(
    data: Path, tmp_path: Path, number: signal.Signals
) -> None:
    whole = Slow(0)
    (tmp_path / "whole").mkdir()
    save(data, tmp_path / "whole", whole)
    assert whole.asked == ROWS + 1  # one row tells how large an answer is
    np.testing.assert_array_equal(logits(tmp_path / "whole"), EXPECTED)
    folder = tmp_path / "killed"
    folder.mkdir()
    command = [sys.executable, str(PROCESS), str(data), str(folder), "0.2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        while not (folder / PROGRESS_FILE).exists() and time.monotonic() < until:
            time.sleep(0.02)
        process.send_signal(number)
        _, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    done = json.loads((folder / PROGRESS_FILE).read_bytes())["rows"]
    assert 0 < done < ROWS
    assert done % BATCH == 0
    rest = Slow(0)
    save(data, folder, rest)
    assert rest.asked == ROWS - done + 1
    assert (folder / "logits.npy").read_bytes() == (tmp_path / "whole" / "logits.npy").read_bytes()


def test_a_full_disk_leaves_what_can_be_gone_on_with(data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(PROCESS), str(data), str(tmp_path), "0", "200"]
    result = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
    assert b"File too large" in result.stderr
    # A header of 128 bytes leaves room for 18 rows of 4; whole batches alone are noted.
    assert json.loads((tmp_path / PROGRESS_FILE).read_bytes())["rows"] == 16
    teacher = Slow(0)
    save(data, tmp_path, teacher)
    assert teacher.asked == ROWS - 16 + 1
    np.testing.assert_array_equal(logits(tmp_path), EXPECTED)


@settings(max_examples=25)
@given(stops=st.lists(st.integers(1, 4), max_size=4), junk=st.binary(max_size=30))
def test_however_often_it_stops_the_files_are_the_same(
    tmp_path_factory: pytest.TempPathFactory, stops: list[int], junk: bytes
) -> None:
    folder, form = tmp_path_factory.mktemp("stops"), AnswerForm("kept-tokens", (2, 9), 3)
    generator = np.random.default_rng(1)
    rows = generator.random((12, 2, 3)), generator.integers(0, 9, (12, 2, 3)), generator.random((12, 2, 1))
    left = [*stops, 12]
    while left:
        with answer_writer(folder, form, 12, {"teacher": "a"}) as writer:
            for _ in range(left.pop(0)):
                if writer.rows < 12:
                    writer.append(tuple(each[writer.rows : writer.rows + 1] for each in rows))
        if left:
            with (folder / "values.npy").open("ab") as stream:  # what a kill left behind the rows that are noted
                stream.write(junk)
    AnswerDescription(12, form, "a").save(folder)
    found = Answers.open(folder)
    assert [each.dtype.name for each in found.arrays] == ["float16", "uint16", "float16"]
    for mine, theirs in zip(found.arrays, rows, strict=True):
        np.testing.assert_array_equal(mine, theirs.astype(mine.dtype))


def unusable(folder: Path, what: str) -> None:
    """Make what lies there no beginning of the same answers."""
    note = json.loads((folder / PROGRESS_FILE).read_bytes())
    match what:
        case "teacher" | "total":
            note[what] = "another"
        case "rows":
            note["rows"] = "many"
        case "truncated":
            (folder / "logits.npy").write_bytes((folder / "logits.npy").read_bytes()[:60])
        case "missing":
            (folder / "logits.npy").unlink()
    (folder / PROGRESS_FILE).write_text("{" if what == "torn" else json.dumps(note))


@pytest.mark.parametrize("what", ["teacher", "total", "rows", "truncated", "missing", "torn"])
def test_what_is_no_beginning_of_the_same_answers_is_begun_again(data: Path, tmp_path: Path, what: str) -> None:
    save(data, tmp_path, Slow(0))
    unusable(tmp_path, what)
    teacher = Slow(0)
    save(data, tmp_path, teacher)
    assert teacher.asked == ROWS + 1
    np.testing.assert_array_equal(logits(tmp_path), EXPECTED)


class Failing(Slow):
    """Fails at the third batch."""

    def __init__(self, error: Exception | None) -> None:
        super().__init__(0)
        self.error = error

    def __call__(self, inputs: Inputs, /) -> torch.Tensor:
        found = super().__call__(inputs)
        if self.asked < 3 * BATCH:
            return found
        if self.error:
            raise self.error
        return torch.where(inputs[0].flatten(1)[:, :1] == 10, torch.nan, found)


def test_a_machine_that_fails_says_how_far_it_came(data: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as refusal:
        save(data, tmp_path, Failing(MachineError("gone", where="http://host")))
    assert refusal.value.what == "gone; 8 of 42 rows are answered"
    assert (refusal.value.where, refusal.value.exit_code) == ("http://host", 5)
    assert json.loads((tmp_path / PROGRESS_FILE).read_bytes())["rows"] == 8


def test_an_answer_that_is_no_number_names_its_row(data: Path, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match="answer to row 10 of the train split is not a finite number"):
        save(data, tmp_path, Failing(None))


def test_answers_of_another_shape_are_refused(data: Path, tmp_path: Path) -> None:
    class Wide(Slow):
        def __call__(self, inputs: Inputs, /) -> torch.Tensor:
            return torch.zeros(len(inputs[0]), 3)

    with pytest.raises(StepFailed, match=r"answers a row with the shape \[3\], the task wants \[2\]"):
        save(data, tmp_path, Wide(0))


def test_progress_is_told_to_the_end(data: Path, tmp_path: Path) -> None:
    told: list[Event] = []
    save_answers(Slow(0), PreparedData.open(data), Asking(64, torch.device("cpu")), tmp_path, told.append)
    last = told[-1]
    assert isinstance(last, Progress)
    assert (last.what, last.done, last.total, last.left) == ("rows", ROWS, ROWS, 0)


def test_damaged_answers_are_not_used(data: Path, tmp_path: Path) -> None:
    save(data, tmp_path, Slow(0))
    with pytest.raises(ArtifactDamaged):
        Answers.open(tmp_path)
    AnswerDescription(ROWS, AnswerForm("logits", (2,)), "slow").save(tmp_path)
    assert Answers.open(tmp_path).description.teacher == "slow"
    content = (tmp_path / "logits.npy").read_bytes()
    (tmp_path / "logits.npy").write_bytes(content[:-1])
    with pytest.raises(ArtifactDamaged, match=r"the array is not float16 \[42, 2\]"):
        Answers.open(tmp_path)
    np.save(tmp_path / "logits.npy", EXPECTED.astype(np.float32))
    with pytest.raises(ArtifactDamaged):
        Answers.open(tmp_path)
