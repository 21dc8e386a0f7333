"""Ranges depend on the rows alone: not on batches, threads, order or slices; and nothing else is left behind."""

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from float_graphs import made
from rows_for_calibration import (
    ENTROPY,
    SMALL,
    TENSORS,
    Interrupting,
    assert_alike,
    calibrated,
    conv_graph,
    every,
    images,
    in_process,
    resources,
    saved,
)

from mlctl.compression.quantization import calibration
from mlctl.compression.quantization.calibration import Calibration, Rows, calibrate
from mlctl.compression.quantization.calibration_state import FILE_NAME
from mlctl.compression.quantization.thresholds import Range, RangeRule
from mlctl.errors import DataError, StepFailed
from mlctl.events import Event, Progress
from mlctl.runtime.session import OnnxSession

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


def test_extremes_are_those_of_all_rows_at_once(graph: Path, values: npt.NDArray[np.float32], tmp_path: Path) -> None:
    model = onnx.load(graph)
    del model.graph.output[:]
    model.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in TENSORS[1:]
    )
    every_tensor = (values, *OnnxSession(model.SerializeToString(), threads=1, is_optimized=False).all((values,)))
    found = calibrated(graph, every(values), resources(tmp_path), rule=MINMAX)
    for name, tensor in zip(TENSORS, every_tensor, strict=True):
        low, high = min(float(tensor.min()), 0.0), max(float(tensor.max()), 0.0)
        # Sums of 144 float32 products in another order.
        assert found.ranges[name].low == pytest.approx(low, rel=1e-5)
        assert found.ranges[name].high == pytest.approx(high, rel=1e-5)
    assert (found.rows, found.slices) == (60, 1)


@pytest.mark.parametrize(("most_rows", "call_bytes"), [(1, 1 << 30), (7, 1 << 30), (256, 1), (256, 50_000)])
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_ranges_do_not_depend_on_batches_or_threads(
    graph: Path,
    values: npt.NDArray[np.float32],
    expected: Calibration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    most_rows: int,
    call_bytes: int,
    threads: int,
) -> None:
    monkeypatch.setattr(calibration, "MOST_ROWS", most_rows)
    monkeypatch.setattr(calibration, "CALL_BYTES", call_bytes)
    found = calibrated(graph, every(values), resources(tmp_path, threads=threads))
    assert found.batch < 60
    assert_alike(found, expected)


def test_ranges_do_not_depend_on_the_order_of_rows(
    graph: Path, values: npt.NDArray[np.float32], expected: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MOST_ROWS", 7)
    shuffled = Rows((values,), np.random.default_rng(3).permutation(60))
    assert_alike(calibrated(graph, shuffled, resources(tmp_path)), expected)


def test_only_the_rows_that_are_named_are_looked_at(graph: Path, tmp_path: Path) -> None:
    values = np.ones((4, 1, 8, 8), np.float32)
    values[1], values[3] = 50, -60
    found = calibrate(
        graph,
        ["x"],
        Rows((values,), np.array([0, 1, 2])),
        rule=MINMAX,
        resources=resources(tmp_path),
        tell=lambda _: None,
    )
    assert found.ranges == {"x": Range(0, 50)}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_graph_that_does_not_fit_is_calibrated_in_slices(
    graph: Path, values: npt.NDArray[np.float32], expected: Calibration, tmp_path: Path, threads: int
) -> None:
    means = resources(tmp_path, threads=threads, max_memory=4_096)
    found = calibrated(graph, every(values), means)
    # 256 bytes of image, three times 4 kB of activations, and a few numbers.
    assert (found.slices, found.batch) == (5, 48 // threads)
    assert_alike(found, expected)


def test_side_by_side_calls_stay_within_the_memory_that_they_may_use(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row of the widest slice fills it: then two threads would need twice as much."""
    at_once: list[int] = []

    def counting(threads: int) -> object:
        at_once.append(threads)
        return pool(threads)

    pool = ThreadPoolExecutor
    monkeypatch.setattr(calibration, "ThreadPoolExecutor", counting)
    calibrated(graph, every(images(5)), resources(tmp_path, threads=2, max_memory=4_096))
    assert sorted(set(at_once)) == [1, 2]


def test_a_tensor_of_which_no_row_fits_is_a_clear_failure(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(StepFailed, match=r"one row of the tensor first needs 4.1 kB") as caught:
        calibrated(graph, every(images(5)), resources(tmp_path, max_memory=4_095))
    assert "`calibration.max_memory`" in str(caught.value.next)


MEMORY = """
import resource, sys
from pathlib import Path
from rows_for_calibration import *

folder = Path(sys.argv[1])
graph = saved(conv_graph(side=64, channels=16), folder)
rows = images(400, 64)
for count in (50, 400):
    (folder / str(count)).mkdir()
    calibrated(graph, every(rows[:count]), resources(folder / str(count), max_memory=8_000_000))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Of one row the activations take 0.8 MB: of 350 rows more, kept, they would take 280 MB."""
    result = in_process(tmp_path, "-c", MEMORY, str(tmp_path))
    assert result.returncode == 0, result.stderr
    after_few, after_many = (1024 * int(line) for line in result.stdout.split())
    assert after_many - after_few < 30_000_000


@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        (images(3).astype(np.float64), r"float64 \[1, 8, 8\]"),
        (images(3, 9), r"float32 \[1, 9, 9\]"),
        (images(3)[:, 0], r"float32 \[8, 8\]"),
        (np.zeros((3, 1, 8, 8), np.uint8), r"uint8 \[1, 8, 8\]"),
    ],
)
def test_rows_of_another_kind_are_refused(
    graph: Path, tmp_path: Path, wrong: npt.NDArray[np.generic], given: str
) -> None:
    with pytest.raises(DataError, match=rf"the rows are {given}; the graph takes float32 \[1, 8, 8\]") as caught:
        calibrated(graph, Rows((wrong,), np.arange(3)), resources(tmp_path))
    assert caught.value.exit_code == 3


def test_another_number_of_inputs_is_refused(graph: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="the rows are float32"):
        calibrated(graph, Rows((images(3), images(3)), np.arange(3)), resources(tmp_path))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("row", [0, 57])
def test_a_row_that_is_not_finite_is_named(graph: Path, tmp_path: Path, row: int, bad: float) -> None:
    values = images(60)
    values[row, 0, 3, 3] = bad
    numbers = np.arange(0, 60) if row == 0 else np.arange(1, 60, 2)
    with pytest.raises(DataError, match=f"row {row} of the train split") as caught:
        calibrated(graph, Rows((values,), numbers), resources(tmp_path))
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("rule", [ENTROPY, MINMAX])
def test_activations_that_overflow_are_named(tmp_path: Path, rule: RangeRule) -> None:
    node = onnx.helper.make_node("Exp", ["x"], ["grown"], "exp")
    model = made([node], {"x": (onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])}, {}, output="grown")
    means = resources(tmp_path)
    with pytest.raises(StepFailed, match="the tensor grown holds values that are not finite"):
        calibrate(
            saved(model, tmp_path),
            ["grown"],
            every(images(3) + 1000),
            rule=rule,
            resources=means,
            tell=lambda _: None,
        )
    assert list(means.scratch.iterdir()) == []


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The working directory and the system's folder for temporary files, both empty before and after."""
    places = [tmp_path / "here", tmp_path / "temporary"]
    for each in places:
        each.mkdir()
    monkeypatch.chdir(places[0])
    monkeypatch.setattr(tempfile, "tempdir", str(places[1]))
    yield places
    assert [list(each.iterdir()) for each in places] == [[], []]


@pytest.mark.parametrize("end", ["success", "failure", "interrupt"])
@pytest.mark.parametrize("threads", [1, 2])
def test_nothing_is_left_behind(
    graph: Path, tmp_path: Path, surroundings: list[Path], monkeypatch: pytest.MonkeyPatch, end: str, threads: int
) -> None:
    monkeypatch.setattr(calibration, "MOST_ROWS", 7)
    monkeypatch.setattr(calibration, "TELL_SECONDS", 0)
    means = resources(tmp_path, threads=threads, max_memory=SMALL)
    values = images(60)
    if end == "success":
        calibrated(graph, every(values), means)
    elif end == "failure":
        values[40] = np.nan
        with pytest.raises(DataError):
            calibrated(graph, every(values), means)
    else:
        with pytest.raises(KeyboardInterrupt):
            calibrated(graph, every(values), means, tell=Interrupting(20))
    assert list(means.scratch.iterdir()) == []
    assert [path.name for path in means.resume.iterdir()] in ([], [FILE_NAME])


def test_progress_counts_every_row_of_every_slice(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "MOST_ROWS", 20)
    monkeypatch.setattr(calibration, "TELL_SECONDS", 0)
    heard: list[Event] = []
    found = calibrated(graph, every(images(60)), resources(tmp_path, max_memory=SMALL), tell=heard.append)
    told = [(each.done, each.total) for each in heard if isinstance(each, Progress)]
    # One row at a time of the first slice, two of the second.
    assert found.slices == 2
    assert told == [(done, 120) for done in (*range(1, 61), *range(62, 121, 2))]
