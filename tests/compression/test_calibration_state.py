"""The file of a calibration comes back as it was written, or is told of and left out; nothing in between."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlctl.compression.quantization import calibration_state
from mlctl.compression.quantization.calibration_state import CalibrationState, Progressed
from mlctl.compression.quantization.histograms import BINS, Histogram, RunningHistogram
from mlctl.events import Event, Warned, silent


def histogram(*values: float) -> Histogram:
    running = RunningHistogram("t")
    running.add(np.array(values, np.float32))
    return running.histogram()


PROGRESSED = Progressed(2, 96, {"/body/conv_output_0": histogram(-3.5, 0.1, 2e9), "empty": histogram()})


def written(folder: Path, progressed: Progressed = PROGRESSED) -> CalibrationState:
    state = CalibrationState(folder, "key", silent)
    state.write(progressed)
    return state


def assert_same(found: Progressed | None, expected: Progressed) -> None:
    assert found
    assert (found.slice, found.rows, list(found.histograms)) == (
        expected.slice,
        expected.rows,
        list(expected.histograms),
    )
    for name, wanted in expected.histograms.items():
        given = found.histograms[name]
        assert (given.low, given.high, given.exponent) == (wanted.low, wanted.high, wanted.exponent)
        np.testing.assert_array_equal(given.counts, wanted.counts)
        assert given.counts.dtype == np.int64


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    assert_same(written(tmp_path).read(), PROGRESSED)
    assert [path.name for path in tmp_path.iterdir()] == [calibration_state.FILE_NAME]


def test_without_a_file_there_is_nothing(tmp_path: Path) -> None:
    heard: list[Event] = []
    assert CalibrationState(tmp_path, "key", heard.append).read() is None
    assert heard == []


def test_another_key_is_no_damage(tmp_path: Path) -> None:
    written(tmp_path)
    heard: list[Event] = []
    assert CalibrationState(tmp_path, "other", heard.append).read() is None
    assert heard == []


def test_a_write_that_breaks_off_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = written(tmp_path)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        state.write(Progressed(3, 0, {}))
    assert_same(state.read(), PROGRESSED)


def test_a_file_is_due_after_so_many_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 114.0, 116.0, 116.0, 117.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    state = CalibrationState(tmp_path, "key", silent, seconds=15)
    assert not state.is_due()
    assert state.is_due()
    state.write(PROGRESSED)
    assert not state.is_due()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return written(tmp_path_factory.mktemp("whole")).path.read_bytes()


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_is_never_half_believed(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Bytes that follow one another are changed, near either end, where all but the counts stand; or it is cut off."""
    place = data.draw(st.one_of(st.integers(0, 1500), st.integers(len(whole) - 1500, len(whole) - 1)))
    junk = data.draw(st.one_of(st.none(), st.binary(min_size=1, max_size=4)))
    damaged = whole[:place] if junk is None else whole[:place] + junk + whole[place + len(junk) :]
    heard: list[Event] = []
    state = CalibrationState(tmp_path, "key", heard.append)
    state.path.write_bytes(damaged)
    found = state.read()
    if found is not None:
        assert_same(found, PROGRESSED)  # what was changed says nothing, such as a file's date
    else:
        (warning,) = heard
        assert isinstance(warning, Warned)
        assert "calibration starts from the beginning" in warning.text


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04.", b"nonsense" * 100])
def test_a_file_of_another_kind_is_told_of(tmp_path: Path, content: bytes) -> None:
    heard: list[Event] = []
    state = CalibrationState(tmp_path, "key", heard.append)
    state.path.write_bytes(content)
    assert state.read() is None
    (warning,) = heard
    assert isinstance(warning, Warned)


def test_counts_of_another_shape_are_told_of(tmp_path: Path) -> None:
    heard: list[Event] = []
    written(tmp_path, Progressed(0, 1, {"t": Histogram(-1, 1, 0, np.zeros(BINS, np.int64))}))
    assert CalibrationState(tmp_path, "key", heard.append).read() is None
    (warning,) = heard
    assert isinstance(warning, Warned)
    assert "another shape" in warning.text
