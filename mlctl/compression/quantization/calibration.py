"""The ranges of a graph's activations, from real rows, in bounded memory."""

import hashlib
import math
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import onnx

from mlctl.compression.quantization.calibration_state import CalibrationState, Progressed
from mlctl.compression.quantization.histograms import Histogram, RunningHistogram
from mlctl.compression.quantization.thresholds import Range, RangeRule
from mlctl.digests import Json, digest, file_digest
from mlctl.errors import DataError, StepFailed
from mlctl.events import Progress, Tell
from mlctl.graphs.cutting import cut_to, reduce_to_extremes
from mlctl.graphs.outline import outline, weightless
from mlctl.runtime.answers import Arrays
from mlctl.runtime.freed_memory import give_back
from mlctl.runtime.running import takes
from mlctl.runtime.session import OnnxSession
from mlctl.units import size_text

MOST_ROWS = 256
CALL_BYTES = 8_000_000
"""Activations of one call: more gain no time, and only need memory."""

Kind: TypeAlias = tuple[str, tuple[int | None, ...]]
"""Dtype and shape of a row, with None where a size is left open."""

CUT_NAME = "cut.onnx"
TELL_SECONDS = 0.2


@dataclass(frozen=True)
class Calibration:
    """The range of every tensor, by name, and how they were found: rows seen, slices of the graph, rows per call."""

    ranges: Mapping[str, Range]
    rows: int
    slices: int
    batch: int


@dataclass(frozen=True)
class Rows:
    """Rows `numbers` (int64 [n], ascending) of the arrays `inputs` [N, ...], which may be maps of files."""

    inputs: Arrays
    numbers: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.numbers)

    def between(self, start: int, stop: int) -> Arrays:
        """Those from position `start` to before `stop`, in memory. Raises DataError where one is not finite."""
        found = tuple(np.ascontiguousarray(each[self.numbers[start:stop]]) for each in self.inputs)
        for values in found:
            if values.dtype.kind == "f" and not np.isfinite(values).all():
                bad = start + int(np.argwhere(~np.isfinite(values))[0, 0])
                raise DataError(
                    f"row {self.numbers[bad]} of the train split holds a value that is not a finite number",
                    next="prepare the data again; `on_bad: skip` sets such rows aside",
                )
        return found


@dataclass(frozen=True)
class Resources:
    """What a calibration may use: threads, bytes for the activations that it looks at, a folder for graphs while it
    runs, and one that outlives a kill."""

    threads: int
    max_memory: int
    scratch: Path
    resume: Path


def calibrate(
    graph: Path, tensors: Sequence[str], rows: Rows, *, rule: RangeRule, resources: Resources, tell: Tell
) -> Calibration:
    """The ranges of the activations `tensors` of the float graph over `rows` of its inputs.

    Only extremes and histograms are kept, so memory grows neither with the number of rows nor with the graph: tensors
    of which one row would not fit into `max_memory` together are looked at in several passes, each over the part of
    the graph that it needs. The result does not depend on the order of the rows, and on the number of rows in a call
    and of threads only as far as ONNX Runtime's own arithmetic does. Interrupted and called again, it goes on.

    Raises DataError for rows that the graph cannot take or that are not finite, and StepFailed for activations that are
    not finite and where a single tensor needs more than `max_memory`.
    """
    with TemporaryDirectory(prefix="calibration-", dir=resources.scratch) as folder:
        outlined = _Outlined(outline(graph, Path(folder)), Path(folder))
        sizes = _bytes_per_row(weightless(graph), outlined, tensors, rows)
        slices = _slices(sizes, resources.max_memory)
        run = _Run(rows, rule, resources, tell, _key(graph, rows, slices, rule), len(slices))
        for number, names in enumerate(slices):
            if number >= run.start.slice:
                session = outlined.session(names, are_counted=rule.needs_counts)
                run.count(session, number, {name: sizes[name] for name in names})
                del session
                give_back()
    ranges = {name: rule.range_of(run.histogram(name)) for name in tensors}
    return Calibration(ranges, len(rows), len(slices), run.batch)


@dataclass
class _Run:
    """The histograms of one calibration, and where it stands."""

    rows: Rows
    rule: RangeRule
    resources: Resources
    tell: Tell
    key: str
    slices: int
    batch: int = 1
    histograms: dict[str, RunningHistogram] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = CalibrationState(self.resources.resume, self.key, self.tell)
        self.start = self.state.read() or Progressed(0, 0, {})
        for name, histogram in self.start.histograms.items():
            self._running(name).restore(histogram)
        self._began, self._told = time.monotonic(), 0.0

    def histogram(self, name: str) -> Histogram:
        return self._running(name).histogram()

    def _running(self, name: str) -> RunningHistogram:
        return self.histograms.setdefault(name, RunningHistogram(name))

    def count(self, session: OnnxSession, number: int, sizes: Mapping[str, int]) -> None:
        """Count all rows of one slice, with as many calls side by side as there are threads and as fit."""
        batch, at_once = _calls(sum(sizes.values()), self.resources)
        self.batch = batch
        running = [self._running(name) for name in sizes]
        first = self.start.rows if number == self.start.slice else 0
        with ThreadPoolExecutor(at_once) as pool:
            calls: deque[tuple[int, Future[None]]] = deque()
            for start in range(first, len(self.rows), batch):
                stop = min(start + batch, len(self.rows))
                calls.append((stop, pool.submit(self._add, session, running, start, stop)))
                if len(calls) >= at_once:
                    self._finish(number, calls)
                if self.state.is_due():
                    # Rows are counted in order only once all calls are in: what is written must be what was counted.
                    while calls:
                        self._finish(number, calls)
                    self._write(number, stop)
            while calls:
                self._finish(number, calls)
        if number + 1 < self.slices:
            self._write(number + 1, 0)

    def _add(self, session: OnnxSession, running: Sequence[RunningHistogram], start: int, stop: int) -> None:
        found = session.all(self.rows.between(start, stop))
        if self.rule.needs_counts:
            for histogram, values in zip(running, found, strict=True):
                histogram.add(values)
            return
        for place, histogram in enumerate(running):
            low, high, total = (float(each) for each in found[3 * place : 3 * place + 3])
            histogram.add_extremes(low, high, total)

    def _finish(self, number: int, calls: deque[tuple[int, Future[None]]]) -> None:
        stop, call = calls.popleft()
        call.result()
        now = time.monotonic()
        if now - self._told >= TELL_SECONDS:
            self._told = now
            total = len(self.rows)
            done = number * total + stop
            before = self.start.slice * total + self.start.rows
            rate = (done - before) / (now - self._began)
            left = (self.slices * total - done) / rate
            self.tell(Progress("calibration", done, self.slices * total, "rows", "", rate, left))

    def _write(self, number: int, rows: int) -> None:
        found = {name: running.histogram() for name, running in self.histograms.items()}
        self.state.write(Progressed(number, rows, found))


@dataclass(frozen=True)
class _Outlined:
    """The graph, with its weights in a file of `folder`, from which every session maps them."""

    model: onnx.ModelProto
    folder: Path

    def session(self, names: Sequence[str], *, are_counted: bool = True) -> OnnxSession:
        """A session for the part of the graph that `names` need.

        It gives the tensors themselves, or where they need not be counted only their extremes and sums, in their order.
        """
        part = onnx.ModelProto()
        part.CopyFrom(self.model)
        cut_to(part, names)
        if not are_counted:
            reduce_to_extremes(part)
        path = self.folder / CUT_NAME
        path.write_bytes(part.SerializeToString(deterministic=True))
        # One thread a call: calls run side by side, and so does the counting in between.
        session = OnnxSession(path, threads=1, has_arena=False)
        give_back()
        return session


def _require_fit(session: OnnxSession, rows: Rows) -> None:
    """Raise DataError unless every input of the graph takes the rows' type, as a session does, and shape."""
    given: list[Kind] = [(str(each.dtype), each.shape[1:]) for each in rows.inputs]
    wanted: list[Kind] = [(port.dtype, port.shape[1:]) for port in session.inputs]
    fits = len(given) == len(wanted) and all(map(_takes, wanted, given))
    if not fits:
        raise DataError(
            f"the rows are {_listed(given)}; the graph takes {_listed(wanted)}",
            next="calibrate with data that were prepared for this model",
        )


def _takes(wanted: Kind, given: Kind) -> bool:
    (dtype, sizes), (other, shape) = wanted, given
    has_shape = len(sizes) == len(shape) and all(size in (None, own) for size, own in zip(sizes, shape, strict=True))
    return takes(dtype, other) and has_shape


def _listed(ports: Sequence[Kind]) -> str:
    return ", ".join(f"{dtype} {[size or '?' for size in shape]}" for dtype, shape in ports) or "none"


def _bytes_per_row(model: onnx.ModelProto, outlined: _Outlined, tensors: Sequence[str], rows: Rows) -> dict[str, int]:
    """Bytes of every tensor for one row: from the shapes that follow in `model`, else from a run for that tensor."""
    one = rows.between(0, 1)
    _require_fit(outlined.session(tensors[:1]), rows)
    for port, values in zip(model.graph.input, one, strict=True):
        for size, own in zip(port.type.tensor_type.shape.dim, values.shape, strict=True):
            size.dim_value = own
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    known = {value.name: _elements(value) for value in (*inferred.input, *inferred.value_info, *inferred.output)}
    return {
        name: 4 * count if (count := known.get(name)) is not None else outlined.session([name])(one).nbytes
        for name in tensors
    }


def _elements(value: onnx.ValueInfoProto) -> int | None:
    """Numbers in a tensor, None where a size is not known."""
    shape = value.type.tensor_type.shape
    is_known = value.type.tensor_type.HasField("shape") and all(each.HasField("dim_value") for each in shape.dim)
    return math.prod(each.dim_value for each in shape.dim) if is_known else None


def _slices(sizes: Mapping[str, int], max_memory: int) -> tuple[tuple[str, ...], ...]:
    """The tensors in groups of which one row fits, in their order."""
    slices: list[list[str]] = [[]]
    taken = 0
    for name, size in sizes.items():
        if size > max_memory:
            raise StepFailed(
                f"one row of the tensor {name} needs {size_text(size)}",
                next=f"raise `calibration.max_memory`, which is {size_text(max_memory)}",
            )
        if taken + size > max_memory:
            slices.append([])
            taken = 0
        slices[-1].append(name)
        taken += size
    return tuple(tuple(each) for each in slices if each)


def _calls(bytes_per_row: int, resources: Resources) -> tuple[int, int]:
    """Rows of one call, and calls side by side, so that all of them fit."""
    row = max(1, bytes_per_row)
    at_once = max(1, min(resources.threads, resources.max_memory // row))
    share = min(CALL_BYTES, resources.max_memory // at_once)
    return max(1, min(MOST_ROWS, share // row)), at_once


def _key(graph: Path, rows: Rows, slices: Sequence[Sequence[str]], rule: RangeRule) -> str:
    numbers = hashlib.sha256(rows.numbers.tobytes()).hexdigest()
    found: dict[str, Json] = {
        "graph": file_digest(graph),
        "rows": numbers,
        "slices": [list(each) for each in slices],
        "has_counts": rule.needs_counts,
    }
    return digest(found)
