"""The work of bench: several models, batch sizes and thread counts take turns; every call is timed."""

from collections.abc import Iterator
from pathlib import Path
from time import monotonic

from mlctl import __version__
from mlctl.data.prepared import PreparedData
from mlctl.engine.figures import Figure
from mlctl.engine.gates import judge
from mlctl.engine.verdict import Outcome, StepResult, Verdict
from mlctl.events import StepFinished, StepStarted, Tell
from mlctl.graphs.example_inputs import GraphInputs
from mlctl.runtime.answers import Arrays, first_rows
from mlctl.runtime.choice import choose_runtime
from mlctl.runtime.latency import COUNTED, Fed, measure_latency
from mlctl.runtime.opening import open_graph
from mlctl.stages.bench_figures import Timings, doubt
from mlctl.stages.bench_plan import SPEEDUP, STEP, BenchPlan, BenchSettings, Case
from mlctl.units import plural

WARMUP_ROUNDS = 5
SPLIT = "test"
MADE_UP = "made up: only their speed is meant"


def bench(plan: BenchPlan, data: Path | None, tell: Tell) -> Verdict:
    """Time the models of `plan`, on rows of the test split of the prepared data in the folder `data` where they fit.

    The verdict's one step holds the figures; its `choices` say what every model ran on and was fed with, and which
    ratios are too uncertain. Raises DataError for a file that is no graph or takes no such batch, and what
    `open_graph` raises.
    """
    began = monotonic()
    tell(StepStarted(STEP, "run", ()))
    rows = PreparedData.open(data).split(SPLIT).inputs if data else None
    choices: dict[str, str] = {}
    entries = [
        (name, threads, fed)
        for name, path in plan.models
        for threads, fed in _loaded(name, path, plan.settings, rows, choices)
    ]
    seconds = measure_latency(
        [(name, fed) for name, _, fed in entries],
        COUNTED,
        batches=plan.settings.batches,
        rounds=plan.settings.rounds,
        warmup=WARMUP_ROUNDS,
        tell=tell,
    )
    timings = Timings(
        plan,
        {
            Case(name, batch, threads): seconds[entry, column]
            for entry, (name, threads, _) in enumerate(entries)
            for column, batch in enumerate(plan.settings.batches)
        },
    )
    figures = tuple(timings.figures())
    choices |= dict(_doubts(plan, figures))
    elapsed = monotonic() - began
    tell(StepFinished(STEP, elapsed))
    return _verdict(plan, timings, StepResult(STEP, STEP, Outcome.RAN, "", None, elapsed, (), figures, choices))


def _loaded(
    name: str, path: Path, settings: BenchSettings, rows: Arrays | None, choices: dict[str, str]
) -> Iterator[tuple[int, Fed]]:
    graph = GraphInputs.of(path)
    for batch in settings.batches:
        graph.require_batch(batch)
    misfit = graph.misfit(rows) if rows is not None else ""
    is_made_up = rows is None or bool(misfit) or not len(rows[0])
    inputs = {
        batch: graph.generated(batch, settings.open_size) if is_made_up or rows is None else first_rows(rows, batch)
        for batch in settings.batches
    }
    choices[f"inputs[{name}]"] = (f"{misfit}; " if misfit else "") + MADE_UP if is_made_up else f"the {SPLIT} split"
    for threads in settings.threads:
        runtime = settings.runtime
        if runtime == "auto":
            rows = inputs[max(settings.batches)]
            choice = choose_runtime(path, rows, threads=threads, device=settings.device, decision="none")
            runtime, choices[f"runtime[{name}].why"] = choice.runtime, choice.why
        running = open_graph(path, runtime=runtime, threads=threads, device=settings.device)
        choices[f"runtime[{name}]"] = f"{running.name} ({running.detail})"
        yield threads, Fed(running, inputs)


def _doubts(plan: BenchPlan, figures: tuple[Figure, ...]) -> Iterator[tuple[str, str]]:
    first = plan.models[0][0]
    for figure, measured in zip(figures, plan.figures.values(), strict=True):
        if measured.kind == SPEEDUP and (why := doubt(figure)):
            case = measured.case
            place = f"{case.model} against {first} at batch {case.batch} with {plural(case.threads, 'thread')}"
            yield f"noise[{case.model}].{figure.figure}", f"{place}: {why}"


def _verdict(plan: BenchPlan, timings: Timings, result: StepResult) -> Verdict:
    figures = {each.name(STEP): each for each in result.figures}
    gates = tuple(judge(gate, figures, timings.difference) for gate in plan.gates)
    return Verdict(__version__, STEP, recipe=None, steps=(result,), gates=gates)
