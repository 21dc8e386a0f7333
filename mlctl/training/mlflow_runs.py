"""A training's epochs as a run on an MLflow server."""

import time
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

from mlctl.events import Tell, Warned
from mlctl.training.mlflow_server import Metric, MlflowServer, ServerFailed
from mlctl.training.tracker import Ending, EpochFigures, Tracker

KEY = "epoch"
"""The metric by whose steps it is known what the server has."""


def start_run(server: MlflowServer, experiment: str, name: str, parameters: Mapping[str, str]) -> str:
    """The id of a new run with these parameters. Raises ServerFailed."""
    run = server.create_run(server.experiment(experiment), name, _now())
    server.log_parameters(run, parameters)
    return run


class MlflowRun(Tracker):
    """Sends epochs from a thread of its own; what could not be sent goes with the next.

    The server is asked what it has before the first sending, and after every one that failed: an answer may be lost
    though the figures arrived.
    """

    def __init__(self, server: MlflowServer, run: str, tell: Tell) -> None:
        self._server = server
        self._run = run
        self._tell = tell
        self._taken: deque[tuple[EpochFigures, int]] = deque()
        self._known: set[int] | None = None
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="mlflow")
        self._sending: Future[None] | None = None
        self._has_warned = False

    def epoch(self, figures: EpochFigures) -> None:
        self._taken.append((figures, _now()))
        if self._sending is None or self._sending.done():
            self._warn_of_failure()
            self._sending = self._worker.submit(self._send)

    def close(self, ending: Ending) -> None:
        """Waits for what is being sent, then for one more try: three silences of the server at the longest."""
        self._sending = self._worker.submit(self._end, ending)
        self._worker.shutdown(wait=True)
        self._warn_of_failure()
        if self._taken:
            self._tell(Warned(f"{self._server.uri}: MLflow lacks {len(self._taken)} epochs of this training"))

    def _warn_of_failure(self) -> None:
        if self._sending is None:
            return
        try:
            self._sending.result()
        except ServerFailed as error:
            if not self._has_warned:
                self._tell(Warned(f"{self._server.uri}: MLflow hears nothing of this training for now: {error}"))
            self._has_warned = True

    def _send(self) -> None:
        known = self._server.steps(self._run, KEY) if self._known is None else self._known
        self._known = None
        waiting = tuple(self._taken)
        fresh = [each for each in waiting if each[0].step not in known]
        self._server.log_metrics(
            self._run,
            [Metric(name, value, when, figures.step) for figures, when in fresh for name, value in figures.named],
        )
        self._known = known | {figures.step for figures, _ in waiting}
        for _ in waiting:
            self._taken.popleft()

    def _end(self, ending: Ending) -> None:
        if self._taken:
            self._send()
        self._server.update_run(self._run, ending, _now())


def _now() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000
