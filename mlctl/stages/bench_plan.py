"""What a bench is asked to do, checked before anything is loaded or timed."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mlctl.engine.expressions import GateSyntaxError
from mlctl.engine.figures import FigureName
from mlctl.engine.gates import Gate
from mlctl.errors import UsageError
from mlctl.recipe.wording import did_you_mean
from mlctl.stages.inspecting import model_file
from mlctl.stages.model_names import named

STEP: Final = "bench"
KINDS: Final = ("p50", "p95", "p99", "throughput")
SPEEDUP: Final = "speedup"
CONFIDENCE: Final = 0.95
CALLS_BEYOND: Final = 10
"""A percentile needs that many calls beyond it before it is more than one bad moment."""
_PERCENTILE: Final = re.compile(r"p(95|99)_")


@dataclass(frozen=True)
class BenchSettings:
    """How to time: batch sizes, thread counts, rounds, and what runs the graphs on which device.

    `open_size` is what open dimensions beside the batch have in inputs that are made up.
    """

    batches: tuple[int, ...]
    threads: tuple[int, ...]
    rounds: int
    runtime: Literal["auto", "onnxruntime", "openvino"]
    device: str
    open_size: int


@dataclass(frozen=True)
class Case:
    """One model at one batch size with one number of threads."""

    model: str
    batch: int
    threads: int


@dataclass(frozen=True)
class Measured:
    """What a figure says of a case: its `p50`, `p95`, `p99`, `throughput`, or `speedup` over the first model."""

    kind: str
    case: Case


@dataclass(frozen=True)
class BenchPlan:
    """The models by name, in order, the first being the one that others are compared with; what is measured; gates."""

    models: tuple[tuple[str, Path], ...]
    settings: BenchSettings
    figures: Mapping[FigureName, Measured]
    gates: tuple[Gate, ...]


def bench_plan(places: Sequence[Path], settings: BenchSettings, gates: Sequence[str]) -> BenchPlan:
    """The bench of the models at `places` (ONNX files, or folders of steps).

    Raises UsageError for a place without an ONNX model, for sizes that stand twice, and for gates that are not
    gates, name no figure of this bench, or ask for a percentile that so few rounds do not have.
    """
    for what, numbers in (("batch", settings.batches), ("threads", settings.threads)):
        if len(set(numbers)) < len(numbers):
            raise UsageError(f"--{what} names one number twice", next=f"name every number once after `--{what}`")
    models = tuple(named([_graph(place) for place in places]))
    figures = dict(_figures([name for name, _ in models], settings))
    return BenchPlan(models, settings, figures, tuple(_gate(text, tuple(figures), settings.rounds) for text in gates))


def _graph(place: Path) -> Path:
    path = model_file(place)
    if path.suffix != ".onnx":
        raise UsageError("only ONNX models are timed here", where=path, next="export it first: `mlctl export RECIPE`")
    return path


def _figures(models: Sequence[str], settings: BenchSettings) -> Iterator[tuple[FigureName, Measured]]:
    for model in models:
        for threads in settings.threads:
            suffix = f"_threads_{threads}" if len(settings.threads) > 1 else ""
            for batch in settings.batches:
                for kind in (*KINDS, *([SPEEDUP] if model != models[0] else [])):
                    name = FigureName(STEP, model, f"{kind}_batch_{batch}{suffix}")
                    yield name, Measured(kind, Case(model, batch, threads))


def _gate(text: str, names: Sequence[FigureName], rounds: int) -> Gate:
    try:
        gate = Gate.of(text, CONFIDENCE)
    except GateSyntaxError as error:
        raise _refused(text, str(error), "write it as in a recipe's gates") from error
    for name in gate.comparison.figures:
        if name not in names:
            hint = did_you_mean(str(name), [str(each) for each in names])
            raise _refused(text, f"no {name} is measured{hint}", f"name a figure of this bench, such as {names[0]}")
        percentile = _PERCENTILE.match(name.figure)
        needed = CALLS_BEYOND * 100 // (100 - int(percentile[1])) if percentile else 0
        if rounds < needed:
            what = f"{rounds} rounds are too few for a {name.figure[:3]}"
            raise _refused(text, what, f"add `--rounds {needed}`, or judge the p50")
    if gate.comparison.symbol in ("==", "!="):
        raise _refused(text, "no interval can decide == or !=", "write >= or <=")
    return gate


def _refused(gate: str, what: str, next_step: str) -> UsageError:
    return UsageError(f"--gate {gate!r}: {what}", next=next_step)
