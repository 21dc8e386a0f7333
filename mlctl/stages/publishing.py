"""A step's model becomes a version in a repository: what is run for it, what must hold, and what is told of it."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlctl.engine.gates import GateResult, Outcome
from mlctl.engine.manifest import Manifest
from mlctl.engine.plan import Life
from mlctl.engine.stage import Step
from mlctl.engine.store import Artifact
from mlctl.engine.verdict import Verdict
from mlctl.errors import StepFailed, UsageError
from mlctl.recipe.recipe import Recipe
from mlctl.serving.repository.names import require_label, require_model_name
from mlctl.serving.repository.publishing import Candidate, Published, publish
from mlctl.serving.repository.record import TOKENIZER, FigureRecord, GateRecord, PortRecord
from mlctl.serving.repository.repository import Repository
from mlctl.serving.repository.writing import repository_refusals
from mlctl.stages.artifacts import Data, OnnxModel
from mlctl.stages.serve import served
from mlctl.stages.wiring import Above

if TYPE_CHECKING:
    from mlctl.data.prepared import PreparedData
    from mlctl.runtime.running import Port
    from mlctl.serving.repository.golden import Golden


@dataclass(frozen=True)
class PublishVerdict(Verdict):
    """The verdict of `mlctl publish`, with the version that it came to; None where there is none."""

    published: Published | None = None

    def _plain(self) -> dict[str, Any]:
        found = self.published
        return {**super()._plain(), "published": found and {**vars(found), "folder": str(found.folder)}}


@dataclass(frozen=True)
class Publication:
    """What is to be published, and where to; checked before anything runs."""

    root: Path
    name: str
    model: Step[OnnxModel]
    data: Step[Data]
    """What the model learnt from; its held-out rows become golden requests."""
    max_batch: int
    labels: tuple[str, ...]
    is_again: bool
    """Whether a new version is wanted even of an artifact that was published already."""

    def wanted(self, life: Life) -> frozenset[str]:
        """The steps that are run: the model's, those that evaluate it, and those that gates speak of."""
        judges = {name.step for gate in life.gates for name in gate.comparison.figures}
        readers = {
            step.name for step in life.steps if step.stage.name == "eval" and self.model in step.stage.inputs().values()
        }
        return life.closure({self.model.name, *judges, *readers})


def publication(
    recipe: Recipe,
    life: Life,
    to: Path,
    *,
    step: str | None = None,
    name: str | None = None,
    labels: Sequence[str] = (),
    is_again: bool = False,
) -> Publication:
    """The publication of the step that is named, or of the one that `serve` would serve, as the recipe's name.

    Raises UsageError where there is no such step, or it makes no graph, for names and labels that cannot be, and where
    a file stands in the repository's place.
    """
    found = served(recipe, life, step)
    known = require_model_name(name or recipe.name)
    _require_folder(to / known)
    return Publication(
        root=to,
        name=known,
        model=found.model,
        data=Above(recipe, life.steps, found.model.name).data_of(found.model),
        max_batch=found.settings.batching.max_size,
        labels=tuple(map(require_label, dict.fromkeys(labels))),
        is_again=is_again,
    )


def _require_folder(folder: Path) -> None:
    """Raise UsageError where there is something else in its place, or in that of one above it."""
    nearest = next((each for each in (folder, *folder.parents) if os.path.lexists(each)), Path())
    if not nearest.is_dir():
        raise UsageError(
            "a file stands where a folder is needed", where=nearest, next="name the repository's folder with `--to`"
        )


def publish_step(wanted: Publication, verdict: Verdict, threads: int, on_wait: Callable[[], None]) -> PublishVerdict:
    """Publish the step's model; `verdict` is that of the run which made it, and has passed.

    Raises StepFailed where a gate was not measured, ArtifactDamaged where a file is not what was made, DataError
    without held-out rows, and what the operating system refuses.
    """
    unknown = [gate.text for gate in verdict.gates if gate.outcome is Outcome.NOT_MEASURED]
    if unknown:
        raise StepFailed(
            f"gates were not measured: {'; '.join(unknown)}", next="let an `eval` step measure what they speak of"
        )
    with repository_refusals(wanted.root):
        candidate = _candidate(wanted, verdict, threads)
        found = publish(Repository(wanted.root), candidate, wanted.labels, again=wanted.is_again, on_wait=on_wait)
    return PublishVerdict(**vars(verdict), published=found)


def refused(wanted: Publication, verdict: Verdict) -> PublishVerdict:
    """The verdict without a version; a gate that kept it out is noted in the model's history, if it has one."""
    failed = [gate for gate in verdict.gates if gate.exit_code]
    if failed:
        why = "; ".join(f"{gate.outcome}: {_judged(gate)}" for gate in failed)
        Repository(wanted.root).record_refusal(wanted.name, None, f"{wanted.model.name}: {why}")
    return PublishVerdict(**vars(verdict))


def _judged(gate: GateResult) -> str:
    values = "" if gate.left is None or gate.right is None else f" ({gate.left:.6g} against {gate.right:.6g})"
    return f"{gate.text}{values}"


def _candidate(wanted: Publication, verdict: Verdict, threads: int) -> Candidate:
    from mlctl.data.prepared import PreparedData
    from mlctl.graphs.external_files import model_files
    from mlctl.runtime.session import OnnxSession

    folders = {each.step: Path(each.folder) for each in verdict.steps if each.folder}
    folder = folders[wanted.model.name]
    artifact = Artifact(folder, Manifest.load(folder))
    artifact.verify()
    manifest = artifact.manifest
    graph = wanted.model.stage.open(folder).graph
    tokenizer = folder / TOKENIZER
    files = (*model_files(graph), *([tokenizer] if tokenizer.exists() else []))
    names = {path.name for path in files}
    session = OnnxSession(graph, threads=threads)
    data = PreparedData.open(folders[wanted.data.name])
    return Candidate(
        name=wanted.name,
        files=files,
        digests=tuple(each for each in manifest.files if each.path in names),
        recipe=manifest.made.recipe,
        step=manifest.step,
        stage=manifest.stage,
        fingerprint=manifest.fingerprint,
        made=manifest.made.started,
        task=data.description.task,
        labels=data.description.labels,
        inputs=_ports(session.inputs),
        outputs=_ports(session.outputs),
        max_batch=wanted.max_batch if _is_joined((*session.inputs, *session.outputs)) else 0,
        gates=tuple(_gates(verdict)),
        figures=tuple(_figures(wanted.model.name, verdict)),
        golden=lambda: _golden(graph, data, threads),
    )


def _golden(graph: Path, data: "PreparedData", threads: int) -> "tuple[Golden, str]":
    from mlctl.serving.repository.golden_recording import record_golden
    from mlctl.tasks.table import TASKS

    held_out = next((split for split in map(data.split, ("test", "validation")) if len(split)), data.split("test"))
    decision = TASKS[data.description.task].decision
    return record_golden(graph, held_out.inputs, decision=decision, threads=threads)


def _ports(ports: "Sequence[Port]") -> tuple[PortRecord, ...]:
    return tuple(PortRecord(each.name, each.dtype, each.shape) for each in ports)


def _is_joined(ports: "Sequence[Port]") -> bool:
    """Whether every input and output begins with an open size, so that requests can be joined."""
    return all(each.shape and each.shape[0] is None for each in ports)


def _gates(verdict: Verdict) -> Iterator[GateRecord]:
    return (GateRecord(each.text, each.outcome.value, each.left, each.right) for each in verdict.gates)


def _figures(model: str, verdict: Verdict) -> Iterator[FigureRecord]:
    """What was measured of the model, by itself and by those who evaluated it."""
    for result in verdict.steps:
        for each in result.figures:
            if each.model == model or (each.model is None and result.step == model):
                yield FigureRecord(str(each.name(result.step)), float(each.value), each.unit, each.low, each.high)
