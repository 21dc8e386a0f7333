"""Which nodes lose time as integers on this machine, as ONNX Runtime's own profiler sees it."""

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import onnx
import onnxruntime

from mlctl.compression.quantization.kernel_times import KernelTimes, kernel_times, regions
from mlctl.compression.quantization.serialization import serialized
from mlctl.errors import DataError
from mlctl.runtime.answers import Arrays, first_rows
from mlctl.runtime.refusals import REFUSALS, at_loading, at_running
from mlctl.runtime.running import widened

_WARM: Final = 5
"""Calls before those that count."""

_ROUNDS: Final = 30

_NOTICEABLE: Final = 1.05
"""Medians of 30 calls that take turns differ by less than 5 % when nothing differs."""

_KERNEL = "_kernel_time"


@dataclass(frozen=True)
class SlowNode:
    """A node that takes longer as integers: milliseconds of one call in the float graph and in the quantized one.

    Conversions that the node alone needs are counted with it, and so is what either graph fused into it; nodes that
    cannot be told apart share their figures.
    """

    node: str
    float_ms: float
    quantized_ms: float


def slow_nodes(
    float_model: onnx.ModelProto,
    quantized_model: onnx.ModelProto,
    rows: Arrays,
    *,
    threads: int,
    batch: int,
    scratch: Path | None = None,
) -> tuple[SlowNode, ...]:
    """The nodes of the float graph, in its order, that lose more than 5 % as integers.

    Both graphs answer the same `batch` rows of `rows` (every input [N, ...]) on the processor, taking turns, 30 times
    after 5. What the profiler writes goes into a folder of its own inside `scratch` (the system's temporary folder,
    unless given) and is gone at the end. A timing decides: two runs may differ. Raises DataError without rows or
    for what is no valid graph, StepFailed for rows that do not fit it and for a graph above 2 GiB.
    """
    if len(rows[0]) == 0:
        raise DataError("there are no rows to time", next="give the split a larger share, or choose another split")
    values = first_rows(rows, batch)
    with tempfile.TemporaryDirectory(prefix="mlctl-", dir=scratch) as folder:
        profiles = [
            _Profile(model, Path(folder) / name, threads)
            for name, model in (("float", float_model), ("quantized", quantized_model))
        ]
        for turn in range(_WARM + _ROUNDS):
            for profile in profiles if turn % 2 else profiles[::-1]:
                profile.answer(values)
        before, after = (profile.times(float_model.graph) for profile in profiles)
    return tuple(_slow(float_model.graph, before, after))


def _slow(graph: onnx.GraphProto, before: KernelTimes, after: KernelTimes) -> list[SlowNode]:
    targets = [node.name for node in graph.node if node.name in after.integers]
    lost: dict[str, SlowNode] = {}
    for region in regions(graph, targets, before, after):
        was = sum(before.milliseconds.get(name, 0.0) for name in region)
        now = sum(after.milliseconds.get(name, 0.0) for name in region)
        if now > was * _NOTICEABLE:
            lost.update((name, SlowNode(name, was, now)) for name in region & after.integers)
    return [lost[name] for name in targets if name in lost]


class _Profile:
    """A session that keeps a diary in a folder of its own."""

    def __init__(self, model: onnx.ModelProto, folder: Path, threads: int) -> None:
        folder.mkdir()
        self._optimized = folder / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_profiling = True
        options.profile_file_prefix = str(folder / "profile")
        options.optimized_model_filepath = str(self._optimized)
        try:
            self._session: Any = onnxruntime.InferenceSession(
                serialized(model), options, providers=["CPUExecutionProvider"]
            )
        except REFUSALS as refusal:
            raise at_loading(refusal, "cpu", None) from refusal
        self._ports = [
            (port.name, port.type.removeprefix("tensor(").removesuffix(")")) for port in self._session.get_inputs()
        ]

    def answer(self, rows: Arrays) -> None:
        try:
            ports = zip(self._ports, rows, strict=True)
            self._session.run(None, {name: widened(array, dtype) for (name, dtype), array in ports})
        except REFUSALS as refusal:
            raise at_running(refusal, None) from refusal

    def times(self, graph: onnx.GraphProto) -> KernelTimes:
        """What the diary says, by node of the float graph."""
        diary = Path(self._session.end_profiling())
        optimized = onnx.load(self._optimized)
        return kernel_times(graph, optimized.graph, _milliseconds(json.loads(diary.read_text())))


def _milliseconds(events: list[dict[str, Any]]) -> Mapping[str, float]:
    """The median time of each kernel in one call, by its name."""
    durations = defaultdict[str, list[int]](list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith(_KERNEL):
            durations[event["name"].removesuffix(_KERNEL)].append(event["dur"])
    calls = _WARM + _ROUNDS
    found = {}
    for name, each in durations.items():
        per_call = max(len(each) // calls, 1)  # nodes may share a name, and loops run one several times
        found[name] = median(each[_WARM * per_call :]) * per_call / 1000
    return found
