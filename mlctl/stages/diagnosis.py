"""What this machine has, and how the store is."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlctl import __version__
from mlctl.compression.quantization.scheme import Scheme, choose_scheme
from mlctl.engine.lineage import library_versions
from mlctl.engine.manifest import Manifest
from mlctl.engine.store import Artifact, Store
from mlctl.errors import ArtifactDamaged
from mlctl.runtime.machine import Machine, machine
from mlctl.units import plural, size_text


@dataclass(frozen=True)
class StoreHealth:
    """What lies in a store; `damaged` names artifacts whose files have other sizes than were written."""

    folder: str
    exists: bool
    artifacts: int
    bytes: int
    unfinished: int
    damaged: tuple[str, ...]
    free_bytes: int


@dataclass(frozen=True)
class Diagnosis:
    """Everything that `mlctl doctor` says."""

    mlctl: str
    machine: Machine
    integers: Scheme
    """What `quantize` takes for `auto` here."""
    versions: dict[str, str]
    store: StoreHealth


def diagnose(store: Path) -> Diagnosis:
    """Look at this machine, the installed libraries and the store; nothing heavy is imported."""
    found = machine()
    integers = choose_scheme("auto", "auto", found.processor.instruction_sets)
    return Diagnosis(__version__, found, integers, library_versions(), _health(Store(store)))


def _health(store: Store) -> StoreHealth:
    damaged, total, count = [], 0, 0
    for folder in store.artifacts():
        count += 1
        try:
            artifact = Artifact(folder, Manifest.load(folder))
            artifact.check_sizes()
            total += sum(file.bytes for file in artifact.manifest.files)
        except ArtifactDamaged as error:
            damaged.append(f"{error.where}: {error.what}")
    work = store.root / "work"
    existing = next(folder for folder in (store.root, *store.root.absolute().parents) if folder.exists())
    return StoreHealth(
        folder=str(store.root),
        exists=store.root.is_dir(),
        artifacts=count,
        bytes=total,
        unfinished=sum(1 for _ in work.iterdir()) if work.is_dir() else 0,
        damaged=tuple(damaged),
        free_bytes=shutil.disk_usage(existing).free,
    )


def diagnosis_lines(found: Diagnosis) -> Iterator[str]:
    """The diagnosis for people."""
    processor, store = found.machine.processor, found.store
    yield f"mlctl          {found.mlctl}, Python {found.machine.python}"
    yield f"system         {found.machine.system}"
    yield f"processor      {processor.model or 'unknown'}"
    quota = found.machine.processor_quota
    limit = f", limited to the time of {quota:g}" if quota is not None else ""
    yield f"cores          {processor.logical_cores} for this process, {processor.physical_cores} physical{limit}"
    yield f"instructions   {' '.join(processor.instruction_sets) or 'none of those that matter'}"
    yield f"integers       {found.integers}"
    yield f"memory         {size_text(found.machine.memory_bytes)}"
    yield f"GPU            {', '.join(found.machine.gpus) or 'none'}"
    yield "libraries      " + ", ".join(f"{name} {version}" for name, version in found.versions.items())
    if not store.exists:
        yield f"store          {store.folder}: not there yet, {size_text(store.free_bytes)} free"
        return
    yield (
        f"store          {store.folder}: {plural(store.artifacts, 'artifact')}, {size_text(store.bytes)}, "
        f"{plural(store.unfinished, 'unfinished step')}, {size_text(store.free_bytes)} free"
    )
    yield from (f"damaged        {each}" for each in store.damaged)
