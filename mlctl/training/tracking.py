"""Every epoch's figures, told to TensorBoard and MLflow while training goes on."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mlctl.digests import Json
from mlctl.errors import MachineError
from mlctl.events import Tell, Warned
from mlctl.recipe.train import TrackSettings
from mlctl.training.history import EpochRecord
from mlctl.training.mlflow_runs import MlflowRun, start_run
from mlctl.training.mlflow_server import NOT_ACTIVE, NOT_THERE, MlflowServer, ServerFailed
from mlctl.training.tensorboard import TensorBoard
from mlctl.training.tracker import Ending, EpochFigures, Tracker

STATE_FILE = "tracking.json"
"""In a training's private folder: where an earlier process of the same training told of it."""
SHORT_FINGERPRINT = 12


@dataclass(frozen=True)
class TrackedTraining:
    """Which training it is that is followed.

    `settings` are its resolved settings, `base` is the folder of the recipe, and `resume` the training's private
    folder, which outlives a kill.
    """

    recipe: str
    step: str
    fingerprint: str
    settings: Mapping[str, Json]
    base: Path
    resume: Path

    @property
    def name(self) -> str:
        """`RECIPE/STEP`."""
        return f"{self.recipe}/{self.step}"


class Trackers:
    """All who hear of a training's epochs. A context: it ends as the training within it ended.

    An epoch that is told again, as after a resume, is told on only where it is not known yet.
    """

    def __init__(self, trackers: Sequence[Tracker] = ()) -> None:
        self._trackers = trackers

    def epoch(self, record: EpochRecord, watched: Sequence[str]) -> None:
        """Tell of an epoch; `watched` names its validation figures. Quick: nothing waits for a network."""
        if self._trackers:
            figures = EpochFigures.of(record, watched)
            for tracker in self._trackers:
                tracker.epoch(figures)

    def close(self, error: BaseException | None = None) -> None:
        """The training ended, by `error` if that is given; waits some seconds for what is still to be sent."""
        stopped = isinstance(error, KeyboardInterrupt | SystemExit)
        ending: Ending = "FINISHED" if error is None else "KILLED" if stopped else "FAILED"
        for tracker in self._trackers:
            tracker.close(ending)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)


def make_trackers(settings: TrackSettings, training: TrackedTraining, tell: Tell) -> Trackers:
    """Those whom the settings name, and the MLflow server of MLFLOW_TRACKING_URI where they name none.

    MLflow's experiment is MLFLOW_EXPERIMENT_NAME's, else the recipe's. TensorBoard's folder has a folder for each
    recipe, step and fingerprint. Raises MachineError where one that the settings name cannot be reached or written;
    a server that only the environment names is warned of and left out, and so is any tracker that fails later.
    """
    uri = settings.mlflow or os.environ.get("MLFLOW_TRACKING_URI", "")
    before = _read(training.resume / STATE_FILE)
    trackers: list[Tracker] = []
    now: dict[str, Json] = dict(before or {})
    if settings.tensorboard is not None:
        folder = training.base / settings.tensorboard / training.recipe / training.step
        folder /= training.fingerprint[:SHORT_FINGERPRINT]
        trackers.append(TensorBoard(folder, tell, goes_on=before is not None))
    if uri:
        try:
            server = MlflowServer(uri)
            run = _run(server, before or {}, training)
            now["mlflow"] = {"uri": server.uri, "run": run}
            trackers.append(MlflowRun(server, run, tell))
        except ServerFailed as error:
            if settings.mlflow:
                raise MachineError(
                    f"MLflow: {error}",
                    where=settings.mlflow.rpartition("@")[2],
                    next="start the server, mend `track.mlflow`, or leave it out",
                ) from error
            tell(Warned(f"this training is not told to the MLflow server of MLFLOW_TRACKING_URI: {error}"))
    if trackers:
        training.resume.mkdir(parents=True, exist_ok=True)
        (training.resume / STATE_FILE).write_text(json.dumps(now))
    return Trackers(trackers)


def _run(server: MlflowServer, before: Mapping[str, Any], training: TrackedTraining) -> str:
    """The run of an earlier process of this training, if the server still has it, else a new one."""
    earlier = before.get("mlflow", {})
    if isinstance(earlier, dict) and earlier.get("uri") == server.uri:
        run = str(earlier.get("run"))
        try:
            server.update_run(run, "RUNNING")
            return run
        except ServerFailed as error:
            if error.code not in (NOT_THERE, NOT_ACTIVE):
                raise
    experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME") or training.recipe
    parameters = {"fingerprint": training.fingerprint, **dict(_flat("", training.settings))}
    return start_run(server, experiment, training.name, parameters)


def _flat(prefix: str, value: Json) -> Iterator[tuple[str, str]]:
    """`optimizer.lr: 0.001` for every value in nested settings; lists in one piece."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else key, each)
    else:
        yield prefix, value if isinstance(value, str) else json.dumps(value)


def _read(path: Path) -> dict[str, Any] | None:
    """What an earlier process wrote there; None where there was none, or where it was cut off."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
