import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Lab
from mlflow_wire import World, mlflow_server
from small_fits import Classification, small_fit
from test_event_files import events
from torch import Tensor

from mlctl.digests import Json
from mlctl.errors import Interrupted, MachineError
from mlctl.events import Event, Warned, silent
from mlctl.recipe.train import TrackSettings, TrainSettings
from mlctl.training import mlflow_server as mlflow_calls
from mlctl.training.event_files import FILE_NAME
from mlctl.training.history import EpochRecord
from mlctl.training.tracking import STATE_FILE, TrackedTraining, Trackers, make_trackers

WATCHED = ("loss", "accuracy")
NAMES = ["epoch", "train/loss", "train/learning_rate", "validation/loss", "validation/accuracy"]


@pytest.fixture(autouse=True)
def _no_server_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("TRACKING_URI", "EXPERIMENT_NAME", "TRACKING_TOKEN", "TRACKING_USERNAME", "TRACKING_PASSWORD")
    for name in names:
        monkeypatch.delenv(f"MLFLOW_{name}", raising=False)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def mlflow() -> Iterator[World]:
    with mlflow_server() as world:
        yield world


def training(folder: Path, **settings: Json) -> TrackedTraining:
    return TrackedTraining("digits", "train", "ab" * 32, settings, base=folder, resume=folder / "resume")


def record(epoch: int, accuracy: float | None = 0.5) -> EpochRecord:
    return EpochRecord(epoch, 10 * epoch, 0.1 / epoch, 1.0 / epoch, (2.0 / epoch, accuracy))


def event_file(folder: Path) -> Path:
    return folder / "board" / "digits" / "train" / ("ab" * 6) / FILE_NAME


def warnings(told: list[Event]) -> list[str]:
    return [event.text for event in told if isinstance(event, Warned)]


def test_nobody_is_told_where_nobody_is_named(tmp_path: Path) -> None:
    with make_trackers(TrackSettings(), training(tmp_path), silent) as trackers:
        trackers.epoch(record(1), WATCHED)
    assert list(tmp_path.iterdir()) == []


def test_every_figure_of_every_epoch_reaches_both(tmp_path: Path, mlflow: World) -> None:
    settings = TrackSettings(tensorboard="board", mlflow=mlflow.uri)
    with make_trackers(settings, training(tmp_path, epochs=3), silent) as trackers:
        for epoch in (1, 2, 3):
            trackers.epoch(record(epoch, None if epoch == 2 else 0.5), WATCHED)
    first, *epochs = events(event_file(tmp_path))
    assert first["version"] == "brain.Event:2"
    assert [event["step"] for event in epochs] == [10, 20, 30]
    assert [list(event["values"]) for event in epochs] == [NAMES, NAMES[:-1], NAMES]
    assert epochs[1]["values"] == pytest.approx(
        {"epoch": 2, "train/loss": 0.5, "train/learning_rate": 0.05, "validation/loss": 1.0}
    )
    assert mlflow.experiments == {"digits": "1"}
    assert mlflow.run["name"] == "digits/train"
    assert mlflow.run["status"] == "FINISHED"
    assert mlflow.values("train/loss") == [(10, 1.0), (20, 0.5), (30, 1 / 3)]
    assert mlflow.values("validation/accuracy") == [(10, 0.5), (30, 0.5)]


def test_settings_become_parameters_by_their_full_names(tmp_path: Path, mlflow: World) -> None:
    settings = {**TrainSettings().deciding(), "many": {f"{number}": number for number in range(150)}, "long": "x" * 900}
    make_trackers(TrackSettings(mlflow=mlflow.uri), training(tmp_path, **settings), silent).close()
    found = mlflow.run["params"]
    assert found["optimizer.lr"] == "0.001"
    assert found["optimizer.name"] == "adamw"
    assert found["model.channels"] == "[32, 64]"
    assert found["keep_best"] == "loss"
    assert found["l1"] == "0.0"
    assert found["fingerprint"] == "ab" * 32
    assert found["many.149"] == "149"
    assert found["long"] == "x" * 500


@pytest.mark.parametrize(
    ("error", "status"),
    [(None, "FINISHED"), (Interrupted(15), "KILLED"), (KeyboardInterrupt(), "KILLED"), (ValueError(), "FAILED")],
    ids=repr,
)
def test_the_run_ends_as_the_training_ends(
    tmp_path: Path, mlflow: World, error: BaseException | None, status: str
) -> None:
    trackers = make_trackers(TrackSettings(mlflow=mlflow.uri), training(tmp_path), silent)
    trackers.close(error)
    assert mlflow.run["status"] == status
    assert mlflow.run["end_time"] > 1_600_000_000_000


class Stops(Classification):
    """Breaks off at one of the calls of `loss`."""

    def __init__(self, at: int) -> None:
        self.left = at

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.left -= 1
        if self.left == 0:
            raise ZeroDivisionError
        return super().loss(outputs, targets)


@pytest.mark.parametrize("at", [2, 6, 9, 14, 18, 20])
def test_a_training_that_is_started_again_sends_no_epoch_twice(tmp_path: Path, mlflow: World, at: int) -> None:
    """Five steps an epoch and a checkpoint after every second: epochs are learnt again that were sent before."""
    settings = TrackSettings(tensorboard="board", mlflow=mlflow.uri)
    changes: dict[str, Any] = {"epochs": 4, "checkpoint_epochs": 2, "checkpoint_seconds": 1e6}
    whole = small_fit(tmp_path / "whole", **changes).fitted.history
    one = training(tmp_path)
    with pytest.raises(ZeroDivisionError), make_trackers(settings, one, silent) as trackers:
        small_fit(one.resume, objective=Stops(at), trackers=trackers, **changes)
    assert mlflow.run["status"] == "FAILED"
    with make_trackers(settings, one, silent) as trackers:
        small_fit(one.resume, trackers=trackers, **changes)
    assert mlflow.run["status"] == "FINISHED"
    losses = [(each.step, each.train_loss) for each in whole]
    assert mlflow.values("train/loss") == losses
    found = events(event_file(tmp_path))[1:]
    assert [event["step"] for event in found] == [step for step, _ in losses]
    assert [event["values"]["train/loss"] for event in found] == pytest.approx([loss for _, loss in losses])


def test_a_training_from_the_beginning_has_a_run_of_its_own(tmp_path: Path, mlflow: World) -> None:
    settings = TrackSettings(tensorboard="board", mlflow=mlflow.uri)
    for _ in range(2):
        with make_trackers(settings, training(tmp_path), silent) as trackers:
            trackers.epoch(record(1), WATCHED)
        (tmp_path / "resume" / STATE_FILE).unlink()
    assert len(mlflow.runs) == 2
    assert [event["step"] for event in events(event_file(tmp_path))] == [0, 10]


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"mlflow": 7}', '{"mlflow": {"uri": "http://elsewhere"}}'])
def test_a_damaged_note_of_an_earlier_process_is_no_failure(tmp_path: Path, mlflow: World, damage: str) -> None:
    one = training(tmp_path)
    one.resume.mkdir()
    (one.resume / STATE_FILE).write_text(damage)
    with make_trackers(TrackSettings(mlflow=mlflow.uri), one, silent) as trackers:
        trackers.epoch(record(1), WATCHED)
    assert mlflow.values("epoch") == [(10, 1.0)]


def test_a_run_that_the_server_has_lost_is_made_anew_with_all_epochs(tmp_path: Path, mlflow: World) -> None:
    settings = TrackSettings(mlflow=mlflow.uri)
    with make_trackers(settings, training(tmp_path), silent) as trackers:
        trackers.epoch(record(1), WATCHED)
    mlflow.runs = {"other": {}}
    with make_trackers(settings, training(tmp_path), silent) as trackers:
        for epoch in (1, 2):
            trackers.epoch(record(epoch), WATCHED)
    mlflow.runs.pop("other")
    assert mlflow.values("epoch") == [(10, 1.0), (20, 2.0)]


def test_a_run_is_not_forgotten_while_the_server_is_away(
    tmp_path: Path, mlflow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = TrackSettings(tensorboard="board")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    for epoch, mlflow.behaviour in ((1, ""), (2, "refuse"), (3, "")):
        with make_trackers(settings, training(tmp_path), silent) as trackers:
            for each in range(1, epoch + 1):
                trackers.epoch(record(each), WATCHED)
    assert mlflow.values("epoch") == [(10, 1.0), (20, 2.0), (30, 3.0)]


def test_more_epochs_than_an_answer_holds_are_known_again(tmp_path: Path, mlflow: World) -> None:
    settings = TrackSettings(mlflow=mlflow.uri)
    for _ in range(2):
        with make_trackers(settings, training(tmp_path), silent) as trackers:
            for epoch in range(1, 12):
                trackers.epoch(record(epoch), WATCHED)
    assert mlflow.values("epoch") == [(10 * epoch, float(epoch)) for epoch in range(1, 12)]


def test_the_environment_names_the_server_the_experiment_and_the_password(
    tmp_path: Path, mlflow: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ann")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")
    with make_trackers(TrackSettings(), training(tmp_path), silent) as trackers:
        trackers.epoch(record(1), WATCHED)
    assert list(mlflow.experiments) == ["nightly"]
    # base64 of `ann:open sesame`
    assert {headers["Authorization"] for _, headers in mlflow.requests} == {"Basic YW5uOm9wZW4gc2VzYW1l"}


def test_a_token_is_sent_along(tmp_path: Path, mlflow: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken\n")
    make_trackers(TrackSettings(mlflow=mlflow.uri), training(tmp_path), silent).close()
    assert {headers["Authorization"] for _, headers in mlflow.requests} == {"Bearer t0ken"}


@pytest.mark.parametrize("behaviour", ["refuse", "nonsense", "redirect", "hang", "lose"])
def test_a_server_that_the_recipe_names_must_be_there_at_the_start(
    tmp_path: Path, mlflow: World, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_calls, "SECONDS", 0.2)
    mlflow.behaviour = behaviour
    uri = mlflow.uri.replace("://", "://ann:secret@")
    with pytest.raises(MachineError, match="MLflow") as refusal:
        make_trackers(TrackSettings(mlflow=uri), training(tmp_path), silent)
    assert refusal.value.exit_code == 5
    assert "secret" not in str(refusal.value)
    assert "\x1b" not in str(refusal.value)
    assert all("elsewhere" not in path for path, _ in mlflow.requests)


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:1", "sqlite:///mlruns.db", "databricks", "http://", "http://[::1", "http://host:x/"]
)
def test_a_server_that_only_the_environment_names_may_be_missing(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    told: list[Event] = []
    with make_trackers(TrackSettings(), training(tmp_path), told.append) as trackers:
        trackers.epoch(record(1), WATCHED)
    (text,) = warnings(told)
    assert text.startswith("this training is not told to the MLflow server of MLFLOW_TRACKING_URI: ")


@pytest.mark.parametrize("behaviour", ["refuse", "hang"])
def test_a_server_that_goes_away_is_warned_of_once_and_the_training_goes_on(
    tmp_path: Path, mlflow: World, behaviour: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlflow_calls, "SECONDS", 0.2)
    told: list[Event] = []
    with make_trackers(TrackSettings(mlflow=mlflow.uri), training(tmp_path), told.append) as trackers:
        mlflow.behaviour = behaviour
        for epoch in range(1, 6):
            trackers.epoch(record(epoch), WATCHED)
    first, last = warnings(told)
    assert "MLflow hears nothing of this training for now" in first
    assert last.endswith("MLflow lacks 5 epochs of this training")
    assert not mlflow.run["metrics"]


@pytest.mark.parametrize("behaviour", ["refuse", "lose"])
def test_what_did_not_arrive_is_sent_later_and_what_arrived_is_not_sent_twice(
    tmp_path: Path, mlflow: World, behaviour: str
) -> None:
    with make_trackers(TrackSettings(mlflow=mlflow.uri), training(tmp_path), silent) as trackers:
        trackers.epoch(record(1), WATCHED)
        mlflow.behaviour = behaviour
        seen = len(mlflow.requests)
        epoch = 1
        while len(mlflow.requests) < seen + 3:  # until some were refused
            epoch += 1
            trackers.epoch(record(epoch), WATCHED)
        mlflow.behaviour = ""
        trackers.epoch(record(epoch + 1), WATCHED)
    assert mlflow.values("epoch") == [(10 * each, float(each)) for each in range(1, epoch + 2)]
    assert mlflow.run["status"] == "FINISHED"


def test_a_folder_that_cannot_be_written_is_named_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "board").write_text("a file")
    with pytest.raises(MachineError, match="TensorBoard's event file cannot be written") as refusal:
        make_trackers(TrackSettings(tensorboard="board"), training(tmp_path), silent)
    assert "board" in str(refusal.value.where)


def test_a_folder_that_goes_away_is_warned_of_once(tmp_path: Path) -> None:
    told: list[Event] = []
    with make_trackers(TrackSettings(tensorboard="board"), training(tmp_path), told.append) as trackers:
        event_file(tmp_path).unlink()
        event_file(tmp_path).parent.rmdir()
        for epoch in (1, 2):
            trackers.epoch(record(epoch), WATCHED)
    (text,) = warnings(told)
    assert "TensorBoard hears no more of this training" in text


def test_the_note_in_the_private_folder_holds_no_password(tmp_path: Path, mlflow: World) -> None:
    uri = mlflow.uri.replace("://", "://ann:secret@")
    make_trackers(TrackSettings(mlflow=uri), training(tmp_path), silent).close()
    note = json.loads((tmp_path / "resume" / STATE_FILE).read_text())
    assert note == {"mlflow": {"uri": mlflow.uri, "run": "run-0"}}


def test_no_trackers_want_nothing() -> None:
    with Trackers() as trackers:
        trackers.epoch(record(1), WATCHED)


def test_the_command_tells_both_and_a_finished_run_tells_nobody(lab: Lab, mlflow: World) -> None:
    line = "train tiny.yaml --threads 1 --set train.track.tensorboard=board"
    result = lab(line, MLFLOW_TRACKING_URI=mlflow.uri)
    assert result.code == 0, result.err
    history = [json.loads(text) for text in (lab.artifact("tiny", "train") / "metrics.jsonl").read_text().splitlines()]
    assert mlflow.run["name"] == "tiny/train"
    assert mlflow.run["params"]["optimizer.lr"] == "0.001"
    assert mlflow.values("validation/loss") == [(each["step"], each["validation"]["loss"]) for each in history]
    (file,) = (lab.folder / "board").rglob("events*")
    assert [event["step"] for event in events(file)] == [0, *(each["step"] for each in history)]
    asked = len(mlflow.requests)
    again = lab(line.replace("=board", "=elsewhere"), MLFLOW_TRACKING_URI=mlflow.uri)
    assert again.err == "prepare  reuse\ntrain    reuse\n"
    assert len(mlflow.requests) == asked
    assert not (lab.folder / "elsewhere").exists()


def test_a_server_that_cannot_be_is_found_with_the_recipe(lab: Lab) -> None:
    result = lab("plan tiny.yaml --set train.track.mlflow=sqlite:///mlruns.db")
    assert result.code == 2
    assert "train.track.mlflow" in result.err


def test_a_server_that_is_not_there_ends_the_command_before_it_trains(lab: Lab) -> None:
    result = lab("train tiny.yaml --threads 1 --set train.track.mlflow=http://127.0.0.1:1")
    assert result.code == 5, result.err
    assert "http://127.0.0.1:1: train: MLflow: it cannot be reached (" in result.err
    assert "  next: start the server, mend `track.mlflow`, or leave it out" in result.err
