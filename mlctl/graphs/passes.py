"""Graph passes as transactions: what a pass makes is run and compared before it is believed."""

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy.typing as npt
import onnx

from mlctl.errors import DataError, StepFailed
from mlctl.events import Tell, Warned, silent
from mlctl.graphs.cleaning import SCOPES, clean
from mlctl.graphs.inspection import graphs, operator_set
from mlctl.graphs.parity import Decision, parity
from mlctl.graphs.quiet import no_chatter
from mlctl.graphs.saving import save_graph
from mlctl.runtime.answers import Arrays, Model
from mlctl.runtime.latency import measure_latency, summary
from mlctl.runtime.session import OnnxSession

MOST_ROWS = 4
"""Rows that a pass is judged on, and soon done with; the whole graph is compared on many more afterwards."""

PASS_TOLERANCE = 1.0e-5
"""How far a pass may move an answer: sums in another order, a tenth of what an export may differ from torch.

The recipe's tolerance judges a finished graph; it must not decide what is in it.
"""

BATCHES = (1, 3)
TIMED_ROUNDS = 5
UNTIMED_ROUNDS = 1
NOTHING_TO_DO = "nothing to do"

Failures: TypeAlias = tuple[type[Exception], ...]


@dataclass(frozen=True)
class GraphPass:
    """One way to write a graph anew.

    `apply` may change the model that it is given, and returns the new one; `failures` are what its library raises.
    """

    name: str
    apply: Callable[[onnx.ModelProto], onnx.ModelProto]
    failures: Failures


@dataclass(frozen=True)
class PassOutcome:
    """What a pass did to the graph. Of a pass that was undone, everything after it is as before.

    `bytes_before` and `bytes_after` count the files; latencies are medians in milliseconds for one row, measured in
    turn, and decide nothing. `difference` is the largest difference to the answers of the original graph that was
    seen, absolute or relative, whichever is smaller: infinite for a graph that could not be run, and also given where
    the pass was undone. `reason` says why it was, or that there was nothing to do.
    """

    name: str
    kept: bool
    reason: str
    nodes_before: int
    nodes_after: int
    bytes_before: int
    bytes_after: int
    latency_before: float
    latency_after: float
    difference: float


@dataclass(frozen=True)
class Passed:
    """The graph after all passes, and what each did."""

    model: onnx.ModelProto
    outcomes: tuple[PassOutcome, ...]


@dataclass(frozen=True)
class _Stand:
    """A graph that can be run; `latency` in milliseconds, NaN until it was measured."""

    proto: onnx.ModelProto
    session: OnnxSession
    nodes: int
    bytes: int
    latency: float = float("nan")
    difference: float = 0.0


class _Remembered:
    """A graph that answers the same rows only once."""

    def __init__(self, session: OnnxSession) -> None:
        self._session = session
        self._answers: dict[tuple[bytes, ...], npt.NDArray[Any]] = {}

    def __call__(self, rows: Arrays) -> npt.NDArray[Any]:
        key = tuple(each.tobytes() for each in rows)
        if key not in self._answers:
            self._answers[key] = self._session(rows)
        return self._answers[key]


class _Undone(Exception):
    """Why a pass's graph is not taken."""

    def __init__(self, reason: str, difference: float = float("inf")) -> None:
        super().__init__(reason)
        self.difference = difference


def apply_passes(
    model: onnx.ModelProto,
    passes: Sequence[GraphPass],
    *,
    rows: Arrays,
    tolerance: float,
    decision: Decision,
    threads: int,
    scratch: Path,
    tell: Tell = silent,
) -> Passed:
    """Run `passes` over copies of `model`, one after the other, and keep those that do no harm.

    Each new graph answers up to 4 of `rows` [N, ...] in several batch sizes with ONNX Runtime, and is compared with
    the answers of `model` itself, so that small moves do not add up unseen. A pass is undone, with a Warned, when an
    answer moves by more than `tolerance` or a `decision` changes, when inputs, outputs or the operator set are not
    the same, when the graph cannot be checked, loaded or run, and when the pass raises. Metadata, producer and the
    nodes' module scopes stay as they were. `scratch` is a folder for files that are gone afterwards. Raises DataError
    without rows, StepFailed when ONNX Runtime cannot run `model` itself.
    """
    if not passes:
        return Passed(model, ())
    if len(rows[0]) == 0:
        raise DataError("there are no rows to compare", next="give the split a larger share, or choose another split")
    trial = _Trial(tuple(each[:MOST_ROWS] for each in rows), tolerance, decision, threads, scratch)
    outcomes = []
    with _old_objects_left_alone():
        current = trial.begun(model)
        reference = _Remembered(current.session)
        for each in passes:
            current, outcome = trial.attempted(each, reference, current)
            outcomes.append(outcome)
            if not outcome.kept:
                tell(Warned(f"the graph pass {each.name} was undone: {outcome.reason}"))
    return Passed(current.proto, tuple(outcomes))


def rewritten(model: onnx.ModelProto, passes: Sequence[GraphPass], tell: Tell = silent) -> onnx.ModelProto:
    """What `passes` make of copies of `model`, unjudged: whoever asks checks the last graph and compares its answers.

    A pass that raises, or changes inputs, outputs or the operator set, is left out, with a Warned.
    """
    for each in passes:
        try:
            proto = _result(each, model)
            _check_face(model, proto)
        except _Undone as undone:
            tell(Warned(f"the graph pass {each.name} was left out: {undone}"))
        else:
            model = proto
    return model


@dataclass(frozen=True)
class _Trial:
    """What passes are judged by."""

    rows: Arrays
    tolerance: float
    decision: Decision
    threads: int
    scratch: Path

    def begun(self, proto: onnx.ModelProto) -> _Stand:
        """The original graph, timed alone."""
        try:
            original = self.loaded(proto)
            return replace(original, latency=self.latencies(original)[0])
        except (DataError, StepFailed) as failure:
            raise StepFailed(
                f"no pass over this graph can be judged: {failure.what}",
                next="choose another `opset`, of which ONNX Runtime knows every operator, or leave the passes out",
            ) from failure

    def loaded(self, proto: onnx.ModelProto) -> _Stand:
        with TemporaryDirectory(dir=self.scratch, prefix="pass-") as name:
            path = save_graph(proto, Path(name))
            onnx.checker.check_model(path, full_check=True)
            size = sum(each.stat().st_size for each in path.parent.iterdir())
            session = OnnxSession(path, threads=self.threads)
        return _Stand(proto, session, sum(len(graph.node) for graph in graphs(proto.graph)), size)

    def attempted(self, each: GraphPass, reference: Model, current: _Stand) -> tuple[_Stand, PassOutcome]:
        """The graph as it stands after the pass, and what became of it."""
        try:
            proto = _result(each, current.proto)
            if proto == current.proto:
                return current, _outcome(each, current, current, reason=NOTHING_TO_DO)
            _check_face(current.proto, proto)
            after = self._judged(proto, reference)
        except _Undone as undone:
            outcome = _outcome(each, current, current, reason=str(undone))
            return current, replace(outcome, kept=False, difference=undone.difference)
        latencies = self.latencies(current, after)
        before, after = replace(current, latency=latencies[0]), replace(after, latency=latencies[1])
        return after, _outcome(each, before, after)

    def _judged(self, proto: onnx.ModelProto, reference: Model) -> _Stand:
        """The new graph, compared with the original one. Raises _Undone."""
        try:
            found = self.loaded(proto)
            compared = parity(reference, found.session, self.rows, decision=self.decision, batches=BATCHES)
        except (DataError, StepFailed) as failure:
            raise _Undone(failure.what) from failure
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as failure:
            raise _Undone(f"the ONNX checker refuses its graph: {_first_line(failure)}") from failure
        if not compared.worst <= self.tolerance:
            reason = f"it moved an answer by {compared.worst:.3g}, above {self.tolerance:.3g}"
            raise _Undone(reason, compared.worst)
        if min(batch.agreement for batch in compared.batches) < 1:
            raise _Undone("it changed a decision", compared.worst)
        return replace(found, difference=compared.worst)

    def latencies(self, *stands: _Stand) -> tuple[float, ...]:
        """Milliseconds that each graph takes for one row, the graphs taking turns."""
        named = [(str(number), stand.session) for number, stand in enumerate(stands)]
        seconds = measure_latency(named, self.rows, batches=(1,), rounds=TIMED_ROUNDS, warmup=UNTIMED_ROUNDS)
        return tuple(summary(each[0]).p50 for each in seconds)


def _result(each: GraphPass, before: onnx.ModelProto) -> onnx.ModelProto:
    """What the pass makes of a copy. Raises _Undone when it fails."""
    copy = onnx.ModelProto()
    copy.CopyFrom(before)
    try:
        with no_chatter():
            after = each.apply(copy)
    except each.failures as failure:
        raise _Undone(f"it failed with {type(failure).__name__}: {_first_line(failure)}") from failure
    clean(after)
    _keep_identity(before, after)
    return after


def _keep_identity(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Give `after` what names the model, and the modules behind nodes that were made anew."""
    after.producer_name, after.producer_version = before.producer_name, before.producer_version
    after.graph.name = before.graph.name
    del after.metadata_props[:]
    after.metadata_props.extend(before.metadata_props)
    scopes = {name: scope for node in before.graph.node if (scope := _scope(node)) for name in node.output}
    for node in after.graph.node:
        inherited = [scopes[name] for name in node.output if name in scopes]
        if inherited and not _scope(node):
            node.metadata_props.add(key=SCOPES, value=inherited[0])


def _scope(node: onnx.NodeProto) -> str:
    return next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")


def _check_face(before: onnx.ModelProto, after: onnx.ModelProto) -> None:
    """Raises _Undone where `after` cannot take the place of `before`."""
    for part in ("input", "output"):
        ports = [[(each.name, each.type) for each in getattr(model.graph, part)] for model in (before, after)]
        if ports[0] != ports[1]:
            raise _Undone(f"it changed the graph's {part}s")
    if operator_set(before) != operator_set(after):
        raise _Undone(f"it changed the operator set from {operator_set(before)} to {operator_set(after)}")


def _outcome(each: GraphPass, before: _Stand, after: _Stand, *, reason: str = "") -> PassOutcome:
    return PassOutcome(
        name=each.name,
        kept=True,
        reason=reason,
        nodes_before=before.nodes,
        nodes_after=after.nodes,
        bytes_before=before.bytes,
        bytes_after=after.bytes,
        latency_before=before.latency,
        latency_after=after.latency,
        difference=after.difference,
    )


@contextmanager
def _old_objects_left_alone() -> Iterator[None]:
    """Objects from before are no garbage: looking at all of torch's would take longer than the passes."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _first_line(failure: BaseException) -> str:
    return " ".join(str(failure).strip().split("\n", 1)[0].split())
