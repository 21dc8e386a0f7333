"""Reads every stored byte again."""

from dataclasses import dataclass

from mlctl.engine.store import Store
from mlctl.errors import ArtifactDamaged


@dataclass(frozen=True)
class Check:
    """Whether one artifact is what was written."""

    step: str
    fingerprint: str
    damage: str | None
    """What is wrong, with its place; None when nothing is."""

    @property
    def exit_code(self) -> int:
        """3 when the artifact is damaged."""
        return ArtifactDamaged.exit_code if self.damage else 0


def verify_store(store: Store) -> tuple[Check, ...]:
    """One check for every artifact in the store, by fingerprint."""
    checks = []
    for folder in store.artifacts():
        step = "?"
        try:
            artifact = store.find(folder.name)
            if artifact is None:
                continue
            step = artifact.manifest.step
            artifact.verify()
            checks.append(Check(step, folder.name, None))
        except ArtifactDamaged as error:
            checks.append(Check(step, folder.name, f"{error.where}: {error.what}"))
    return tuple(checks)
