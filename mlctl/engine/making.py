"""Makes one artifact: under its lock, in private, published whole or not at all."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from mlctl import __version__
from mlctl.engine.failures import system_refusals
from mlctl.engine.figures import Figure
from mlctl.engine.lineage import host, library_versions, now, platform_text, python_version
from mlctl.engine.manifest import Input, Made, Manifest, stored_files
from mlctl.engine.plan import Action, Life, PlannedStep
from mlctl.engine.stage import Work
from mlctl.engine.store import Artifact, Store
from mlctl.errors import Interrupted, MachineError, MlctlError
from mlctl.events import Tell, Waiting, Warned


@dataclass(frozen=True)
class RunOptions:
    """What is about this run and not about the model."""

    device: str = "auto"
    threads: int = 1
    keep_going: bool = False


class Maker:
    """Makes artifacts into a store."""

    def __init__(self, store: Store, options: RunOptions, tell: Tell) -> None:
        self._store = store
        self._options = options
        self._tell = tell
        self._verified: set[str] = set()

    def make(self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact]) -> Artifact:
        """The artifact of `planned`, made here or, while this process waited, by another.

        `inputs` are the artifacts of the steps that it reads, by step name; each is verified first.
        """
        for artifact in inputs.values():
            self._verify(artifact)
        with system_refusals(), self._store.locked(planned.fingerprint, lambda: self._tell(Waiting(planned.step.name))):
            if not planned.is_forced and (made := self._store.find(planned.fingerprint)):
                self._verify(made)
                return made
            return self._make_alone(life, planned, inputs)

    def _make_alone(self, life: Life, planned: PlannedStep, inputs: Mapping[str, Artifact]) -> Artifact:
        started, clock = now(), time.monotonic()
        work = self._work(planned, inputs)
        try:
            figures = planned.step.stage.run(work)
            made = Made(
                recipe=str(life.recipe),
                mlctl=__version__,
                started=started,
                seconds=time.monotonic() - clock,
                resumed=planned.action is Action.RESUME,
                host=host(),
                platform=platform_text(),
                python=python_version(),
                versions=library_versions(),
                device=self._options.device,
                threads=self._options.threads,
            )
            manifest = self._manifest(planned, work, figures, made)
            self._warn_of_other_bytes(planned, manifest)
            artifact = self._store.publish(work.folder, manifest)
        except (Interrupted, MachineError, OSError):
            self._store.drop_scratch(planned.fingerprint)
            raise
        except MlctlError:
            self._store.drop_work(planned.fingerprint)
            raise
        self._verified.add(planned.fingerprint)
        return artifact

    def _work(self, planned: PlannedStep, inputs: Mapping[str, Artifact]) -> Work:
        if planned.is_forced:
            self._store.drop_work(planned.fingerprint)
        return Work(
            folder=self._store.scratch(planned.fingerprint),
            resume=self._store.resume_folder(planned.fingerprint),
            fingerprint=planned.fingerprint,
            device=self._options.device,
            threads=self._options.threads,
            tell=self._tell,
            folders={name: artifact.folder for name, artifact in inputs.items()},
            fingerprints={name: artifact.manifest.fingerprint for name, artifact in inputs.items()},
            figures={name: artifact.manifest.figures for name, artifact in inputs.items()},
        )

    def _manifest(self, planned: PlannedStep, work: Work, figures: tuple[Figure, ...], made: Made) -> Manifest:
        identity, stage = planned.identity, planned.step.stage
        return Manifest(
            step=planned.step.name,
            stage=stage.name,
            revision=stage.revision,
            fingerprint=planned.fingerprint,
            settings=identity.settings,
            inputs=tuple(Input(role, step.name, identity.inputs[role]) for role, step in stage.inputs().items()),
            sources=identity.sources,
            files=stored_files(work.folder),
            figures=figures,
            made=made,
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
