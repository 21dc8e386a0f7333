"""From a graph in memory to a step's artifact: passes, the file, and the comparison with what it was made from."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mlctl.digests import jsonable
from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.graphs.export import Exported, write_graph
from mlctl.graphs.inspection import read_graph
from mlctl.graphs.parity import Decision, Parity, parity
from mlctl.graphs.pass_list import passes_named
from mlctl.graphs.passes import PASS_TOLERANCE, PassOutcome, apply_passes
from mlctl.recipe.export import ExportSettings
from mlctl.runtime.answers import Arrays, Model
from mlctl.runtime.session import OnnxSession
from mlctl.stages.export_figures import PARITY_BATCHES
from mlctl.units import parse_size

if TYPE_CHECKING:
    import onnx

PARITY_REPORT = "parity.json"
PASSES_REPORT = "passes.json"


@dataclass(frozen=True)
class FinishedExport:
    """The comparison of the file that was written, and all figures that `export_promises` names."""

    parity: Parity
    figures: tuple[Figure, ...]


def finished_export(
    proto: "onnx.ModelProto",
    reference: Model,
    rows: Arrays,
    *,
    decision: Decision,
    settings: ExportSettings,
    work: Work,
) -> FinishedExport:
    """Run the passes over `proto`, write it into the step's folder, and compare the file with `reference` on `rows`.

    `rows` [N, ...] are held-out raw inputs. The folder gets `model.onnx`, `passes.json` and `parity.json`. Raises
    what `apply_passes`, `write_graph` and `parity` do.
    """
    passed = apply_passes(
        proto,
        passes_named(settings.passes),
        rows=rows,
        tolerance=PASS_TOLERANCE,
        decision=decision,
        threads=work.threads,
        scratch=work.folder,
        tell=work.tell,
    )
    exported = write_graph(passed.model, work.folder, external_above=parse_size(settings.external_data_above))
    found = parity(
        reference,
        OnnxSession(exported.path, threads=work.threads),
        rows,
        decision=decision,
        batches=PARITY_BATCHES,
    )
    _write(work, PARITY_REPORT, asdict(found))
    _write(work, PASSES_REPORT, [_without_timings(each) for each in passed.outcomes])
    work.choices["opset"] = _operator_sets(exported)
    work.choices.update({f"pass[{each.name}]": _said(each) for each in passed.outcomes})
    pass_figures = (figure for each in passed.outcomes for figure in _pass_figures(each))
    return FinishedExport(found, (*_parity_figures(found), *_graph_figures(exported), *pass_figures))


def _write(work: Work, name: str, report: object) -> None:
    (work.folder / name).write_text(json.dumps(jsonable(report), indent=2) + "\n")


def _without_timings(outcome: PassOutcome) -> dict[str, object]:
    """The outcome as far as it repeats to the byte."""
    return {key: value for key, value in asdict(outcome).items() if not key.startswith("latency_")}


def _operator_sets(exported: Exported) -> str:
    """The version of ONNX's operators, then those of other domains that the graph needs."""
    sets = {each.domain: each.version for each in read_graph(exported.path).opset_import}
    others = [f"{domain} {version}" for domain, version in sorted(sets.items()) if domain not in ("", "ai.onnx")]
    return ", ".join([str(exported.opset), *others])


def _said(outcome: PassOutcome) -> str:
    if not outcome.kept:
        return f"undone: {outcome.reason}"
    return outcome.reason or f"nodes {outcome.nodes_before} → {outcome.nodes_after}"


def _parity_figures(found: Parity) -> Iterator[Figure]:
    yield Figure("parity", Kind.PARITY, found.worst, better="lower")
    for each in found.batches:
        yield Figure(f"parity_batch_{each.batch}", Kind.PARITY, each.max_difference, better="lower")
    yield Figure("max_absolute", Kind.PARITY, max(each.max_absolute for each in found.batches), better="lower")
    yield Figure("max_relative", Kind.PARITY, max(each.max_relative for each in found.batches), better="lower")
    yield Figure("agreement", Kind.PARITY, min(each.agreement for each in found.batches), better="higher")


def _graph_figures(exported: Exported) -> Iterator[Figure]:
    yield Figure("opset", Kind.SIZE, exported.opset)
    yield Figure("nodes", Kind.SIZE, exported.nodes)
    yield Figure("parameters", Kind.SIZE, exported.parameters)
    yield Figure("bytes", Kind.SIZE, exported.bytes, "bytes")


def _pass_figures(outcome: PassOutcome) -> Iterator[Figure]:
    """The graph as it stands after the pass."""
    yield Figure("nodes", Kind.SIZE, outcome.nodes_after, model=outcome.name, better="lower")
    yield Figure("bytes", Kind.SIZE, outcome.bytes_after, "bytes", model=outcome.name, better="lower")
    yield Figure("p50_batch_1", Kind.LATENCY, outcome.latency_after, "ms", model=outcome.name, better="lower")
    yield Figure("difference", Kind.PARITY, outcome.difference, model=outcome.name, better="lower")
