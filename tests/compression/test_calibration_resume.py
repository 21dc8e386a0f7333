"""A calibration that was stopped goes on where it stood, and finds what it would have found."""

import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import rows_for_calibration
from rows_for_calibration import (
    ENTROPY,
    SMALL,
    Interrupting,
    assert_alike,
    calibrated,
    conv_graph,
    every,
    images,
    in_process,
    resources,
    saved,
    writing_always,
)

from mlctl.compression.quantization import calibration
from mlctl.compression.quantization.calibration import Calibration, Rows
from mlctl.compression.quantization.calibration_state import FILE_NAME
from mlctl.compression.quantization.thresholds import RangeRule
from mlctl.events import Event, Warned

MINMAX = RangeRule("minmax")


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(conv_graph(), tmp_path_factory.mktemp("graph"))


@pytest.fixture(scope="module")
def values() -> npt.NDArray[np.float32]:
    return images(60)


@pytest.fixture(scope="module")
def expected(graph: Path, values: npt.NDArray[np.float32], tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    return calibrated(graph, every(values), resources(tmp_path_factory.mktemp("expected")))


@pytest.mark.parametrize(
    ("event", "number", "threads"), [("open", 1, 1), ("os.rename", 1, 2), ("os.rename", 5, 1), ("open", 70, 2)]
)
def test_a_killed_calibration_goes_on_and_finds_the_same(
    values: npt.NDArray[np.float32],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    event: str,
    number: int,
    threads: int,
) -> None:
    """Killed when the state is opened for the n-th time, or before it is renamed."""
    graph = saved(conv_graph(), tmp_path)
    monkeypatch.setattr(calibration, "MOST_ROWS", 3)
    means = resources(tmp_path, threads=threads, max_memory=SMALL)
    script = str(Path(rows_for_calibration.__file__))
    result = in_process(tmp_path, script, str(tmp_path), event, str(number), str(threads))
    assert result.returncode == -signal.SIGKILL, result.stderr
    assert (means.resume / FILE_NAME).exists() == (number > 1)
    heard: list[Event] = []
    found = calibrated(graph, every(values), means, tell=heard.append)
    assert [each for each in heard if isinstance(each, Warned)] == []
    (tmp_path / "whole").mkdir()
    whole = resources(tmp_path / "whole", threads=threads, max_memory=SMALL)
    assert found == calibrated(graph, every(values), whole)


def rows_counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Fills with the number of rows of every call from now on; the first is the one that measures sizes."""
    counts: list[int] = []
    between = Rows.between

    def spying(self: Rows, start: int, stop: int) -> tuple[npt.NDArray[np.generic], ...]:
        counts.append(stop - start)
        return between(self, start, stop)

    monkeypatch.setattr(Rows, "between", spying)
    return counts


@pytest.fixture
def interrupted(graph: Path, values: npt.NDArray[np.float32], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a calibration stopped when 30 of 60 rows were counted."""
    monkeypatch.setattr(calibration, "MOST_ROWS", 10)
    monkeypatch.setattr(calibration, "CalibrationState", writing_always())
    monkeypatch.setattr(calibration, "TELL_SECONDS", 0)
    with pytest.raises(KeyboardInterrupt):
        calibrated(graph, every(values), resources(tmp_path), tell=Interrupting(40))
    return tmp_path


def test_an_interrupted_calibration_counts_only_the_rest(
    graph: Path,
    values: npt.NDArray[np.float32],
    expected: Calibration,
    interrupted: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    counts = rows_counted(monkeypatch)
    found = calibrated(graph, every(values), resources(interrupted))
    assert counts == [1, 10, 10, 10]
    assert_alike(found, expected)


@pytest.mark.parametrize("change", ["graph", "rows", "slices", "method"])
def test_the_state_of_another_calibration_is_left_out(
    graph: Path,
    values: npt.NDArray[np.float32],
    interrupted: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    means, rows, rule = resources(interrupted), every(values), ENTROPY
    if change == "graph":
        graph = saved(conv_graph(channels=12), tmp_path_factory.mktemp("other"))
    elif change == "rows":
        rows = replace(rows, numbers=np.append(np.arange(59), 0))
    elif change == "slices":
        means = replace(means, max_memory=SMALL)
    else:
        rule = MINMAX
    counts = rows_counted(monkeypatch)
    heard: list[Event] = []
    found = calibrated(graph, rows, means, rule=rule, tell=heard.append)
    assert sum(counts) == 1 + 60 * found.slices
    fresh = resources(tmp_path_factory.mktemp("fresh"), max_memory=means.max_memory)
    assert found == calibrated(graph, rows, fresh, rule=rule)
    assert [each for each in heard if isinstance(each, Warned)] == []


def test_a_damaged_state_is_told_of_and_left_out(
    graph: Path, values: npt.NDArray[np.float32], expected: Calibration, interrupted: Path
) -> None:
    state = interrupted / "resume" / FILE_NAME
    state.write_bytes(state.read_bytes()[:-100])
    heard: list[Event] = []
    found = calibrated(graph, every(values), resources(interrupted), tell=heard.append)
    (warning,) = (each for each in heard if isinstance(each, Warned))
    assert str(state) in warning.text
    assert "starts from the beginning" in warning.text
    assert_alike(found, expected)
