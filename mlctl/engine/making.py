"""Makes one artifact: under its lock, in private, published whole or not at all."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mlctl import __version__
from mlctl.engine.company import ALONE, Company
from mlctl.engine.figures import Figure
from mlctl.engine.lineage import host, library_versions, now, platform_text, python_version
from mlctl.engine.manifest import Input, Made, Manifest, stored_files
from mlctl.engine.plan import Life, PlannedStep
from mlctl.engine.sources import SourceLedger
from mlctl.engine.stage import Work
from mlctl.engine.store import Artifact, Store
from mlctl.engine.verdict import Outcome
from mlctl.errors import DataError, MachineError, MlctlError, OutOfMemory, UsageError
from mlctl.events import Tell, Waiting, Warned


@dataclass(frozen=True)
class RunOptions:
    """What is about this run and not about the model."""

    device: str = "auto"
    threads: int = 1
    keep_going: bool = False
    allow_code: bool = False
    company: Company = ALONE


class Maker:
    """Makes artifacts into a store."""

    def __init__(self, store: Store, ledger: SourceLedger, options: RunOptions, tell: Tell) -> None:
        self._store = store
        self._ledger = ledger
        self._options = options
        self._tell = tell
        self._verified: set[str] = set()

    def make(self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact]) -> tuple[Artifact, Outcome]:
        """The artifact of `planned`, and how it came about: reused where another process made it meanwhile.

        `inputs` are the artifacts of the steps that it reads, by step name; each is verified first.
        """
        for artifact in inputs.values():
            self._verify(artifact)
        with self._store.locked(planned.fingerprint, lambda: self._tell(Waiting(planned.step.name))):
            made = None if planned.is_forced else self._store.find(planned.fingerprint)
            if made and not made.remade_inputs(_by_role(planned, inputs)):
                self._verify(made)
                self.agree(planned, Outcome.REUSED)
                return made, Outcome.REUSED
            self.agree(planned, Outcome.RAN)
            can_resume = not planned.is_forced and self._store.can_resume(planned.fingerprint)
            artifact = self._make_alone(life, planned, inputs, can_resume)
            return artifact, Outcome.RESUMED if can_resume else Outcome.RAN

    def agree(self, planned: PlannedStep, outcome: Outcome) -> None:
        """Tell the others what becomes of a step that is shared, once they are here."""
        if planned.step.stage.is_shared_work:
            self._options.company.agreed(f"{outcome} {planned.fingerprint}")

    def follow(self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact]) -> Outcome:
        """Work on a shared step with its leader, in private, and keep nothing; what became of it there.

        Raises UsageError where the leader works on another artifact.
        """
        for artifact in inputs.values():
            self._verify(artifact)
        outcome, _, fingerprint = self._options.company.agreed("").partition(" ")
        if fingerprint != planned.fingerprint:
            raise UsageError(
                f"{planned.step.name} comes to {planned.fingerprint[:12]} here and to {fingerprint[:12]} in the leader",
                where=life.recipe,
                next="give every process the same recipe, the same overrides, the same data and the same mlctl",
            )
        if outcome == Outcome.RAN:
            private = f"{planned.fingerprint}.{self._options.company.rank}"
            with self._store.locked(private, lambda: self._tell(Waiting(planned.step.name))):
                try:
                    planned.step.stage.run(self._work(life, planned, inputs, private))
                finally:
                    self._store.drop_work(private)
        return Outcome(outcome)

    def published(self, planned: PlannedStep) -> Artifact:
        """What the leader has made of a shared step. Raises MachineError where it is not in this process's store."""
        with self._store.locked(planned.fingerprint, lambda: self._tell(Waiting(planned.step.name))):
            artifact = self._store.find(planned.fingerprint)
        if artifact is None:
            raise MachineError(
                f"{planned.step.name} is not in this process's store, and a later step needs it",
                where=self._store.root,
                next="let all processes use one store, on a file system that they share, with `--store`",
            )
        return artifact

    def _make_alone(
        self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact], can_resume: bool
    ) -> Artifact:
        started, clock = now(), time.monotonic()
        if planned.is_forced:
            self._store.drop_work(planned.fingerprint)
        work = self._work(life, planned, inputs, planned.fingerprint)
        try:
            figures = planned.step.stage.run(work)
            self._require_same_sources(life, planned)
            made = Made(
                recipe=str(life.recipe),
                mlctl=__version__,
                started=started,
                seconds=time.monotonic() - clock,
                resumed=can_resume,
                host=host(),
                platform=platform_text(),
                python=python_version(),
                versions=library_versions(),
                threads=self._options.threads,
                choices=work.choices,
            )
            manifest = self._manifest(planned, work, inputs, figures, made)
            self._warn_of_other_bytes(planned, manifest)
            artifact = self._store.publish(work.folder, manifest)
        except MlctlError as error:
            # Unless the machine was to blame, to go on from there would only fail again.
            if not isinstance(error, MachineError | OutOfMemory):
                self._store.drop_work(planned.fingerprint)
            raise
        finally:
            self._store.drop_scratch(planned.fingerprint)
        self._verified.add(planned.fingerprint)
        return artifact

    def _work(self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact], place: str) -> Work:
        return Work(
            folder=self._store.scratch(place),
            resume=self._store.resume_folder(place),
            fingerprint=planned.fingerprint,
            device=self._options.device,
            threads=self._options.threads,
            choices={},
            code=life.recipe.parent if self._options.allow_code else None,
            tell=self._tell,
            folders={name: artifact.folder for name, artifact in inputs.items()},
            fingerprints={name: artifact.manifest.fingerprint for name, artifact in inputs.items()},
            figures={name: artifact.manifest.figures for name, artifact in inputs.items()},
            # Who else is there has no part in a step that one process makes while the others wait.
            company=self._options.company if planned.step.stage.is_shared_work else ALONE,
        )

    def _manifest(
        self,
        planned: PlannedStep,
        work: Work,
        inputs: Mapping[str, Artifact],
        figures: tuple[Figure, ...],
        made: Made,
    ) -> Manifest:
        identity, stage = planned.identity, planned.step.stage
        return Manifest(
            step=planned.step.name,
            stage=stage.name,
            revision=stage.revision,
            fingerprint=planned.fingerprint,
            settings=identity.settings,
            inputs=tuple(
                Input(role, stage.inputs()[role].name, identity.inputs[role], artifact.manifest.content)
                for role, artifact in _by_role(planned, inputs).items()
            ),
            sources=identity.sources,
            files=stored_files(work.folder),
            figures=figures,
            made=made,
        )

    def _require_same_sources(self, life: Life, planned: PlannedStep) -> None:
        base = life.recipe.parent
        found = {self._ledger.look(file, base) for file in planned.step.stage.sources()}
        changed = sorted({source.path for source in found.symmetric_difference(planned.identity.sources)})
        if changed:
            raise DataError(
                f"{', '.join(changed)} changed while it was read", where=base, next="run the same command again"
            )

    def _warn_of_other_bytes(self, planned: PlannedStep, manifest: Manifest) -> None:
        if not planned.is_forced or planned.artifact is None:
            return
        before = {file.path: file.sha256 for file in planned.artifact.manifest.files}
        after = {file.path: file.sha256 for file in manifest.files}
        changed = sorted(path for path in before if after.get(path) != before[path])
        if changed and planned.step.stage.is_reproducible:
            names = ", ".join(changed)
            self._tell(Warned(f"{planned.step.name}: made again from the same inputs, other bytes in {names}"))

    def _verify(self, artifact: Artifact) -> None:
        if artifact.manifest.fingerprint not in self._verified:
            artifact.verify()
            self._verified.add(artifact.manifest.fingerprint)


def _by_role(planned: PlannedStep, inputs: Mapping[str, Artifact]) -> dict[str, Artifact]:
    return {role: inputs[step.name] for role, step in planned.step.stage.inputs().items()}
