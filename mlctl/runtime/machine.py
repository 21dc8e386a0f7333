"""What this machine offers to this process. Standard library only: `mlctl doctor` must answer at once."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "amx_bf16", "avx512_bf16")
"""Those that decide which numbers are fast, as /proc/cpuinfo spells them."""

_GPU_SECONDS = 5
_UNLIMITED = 1 << 60
"""Control groups of version 1 write a limit near 2^63 where there is none."""


@dataclass(frozen=True)
class Processor:
    """The processor as far as this process may use it."""

    model: str
    logical_cores: int
    physical_cores: int
    instruction_sets: tuple[str, ...]


@dataclass(frozen=True)
class Machine:
    """Processor, memory in bytes, graphics processors, and what the process runs on.

    `processor_quota` counts cores' worth of time that the control group allows; None where nothing limits it.
    """

    processor: Processor
    processor_quota: float | None
    memory_bytes: int
    gpus: tuple[str, ...]
    system: str
    python: str


def machine() -> Machine:
    """This machine, as this process may use it: affinity and control groups count."""
    groups = control_groups(_text(Path("/proc/self/cgroup")), Path("/sys/fs/cgroup"))
    return Machine(
        processor=this_processor(),
        processor_quota=processor_quota(groups),
        memory_bytes=min([_physical_memory(), *_memory_limits(groups)]),
        gpus=_gpus(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
    )


def this_processor() -> Processor:
    """This machine's processor, as this process may use it."""
    return processor(_text(Path("/proc/cpuinfo")), _allowed())


def processor(cpuinfo: str, allowed: frozenset[int]) -> Processor:
    """The processor that `cpuinfo` (the text of /proc/cpuinfo, or nothing) describes, for the allowed logical cores.

    A set of instructions counts only when every allowed core has it.
    """
    cores = [dict(_entry(line) for line in block.splitlines()) for block in cpuinfo.split("\n\n")]
    usable = [core for core in cores if core.get("processor", "").isdecimal() and int(core["processor"]) in allowed]
    places = {(core["physical id"], core["core id"]) for core in usable if {"physical id", "core id"} <= core.keys()}
    flags = [set(core.get("flags", "").split()) for core in usable]
    return Processor(
        model=next((core["model name"] for core in usable if core.get("model name")), "") or platform.machine(),
        logical_cores=len(allowed),
        physical_cores=len(places) or len(allowed),
        instruction_sets=tuple(name for name in INSTRUCTION_SETS if flags and all(name in each for each in flags)),
    )


def control_groups(membership: str, root: Path) -> tuple[Path, ...]:
    """Folders under `root` that hold limits for a process of this `membership` (the text of /proc/self/cgroup).

    Of version 2, and of version 1's cpu and memory; each with the groups around it, since their limits hold too.
    """
    folders: list[Path] = []
    for line in membership.splitlines():
        _, controllers, path = line.split(":", 2)
        for mount in _mounts(controllers, root):
            inner = mount / path.lstrip("/")
            folders += [folder for folder in (inner, *inner.parents) if folder.is_relative_to(mount)]
    return tuple(dict.fromkeys(folders))


def processor_quota(groups: tuple[Path, ...]) -> float | None:
    """The least number of cores' worth of time that any of the groups allows, or None."""
    quotas = []
    for group in groups:
        version_2 = _text(group / "cpu.max").split()
        version_1 = [*_text(group / "cpu.cfs_quota_us").split(), *_text(group / "cpu.cfs_period_us").split()]
        for pair in (version_2, version_1):
            if len(pair) == 2 and pair[0].isdecimal() and pair[1].isdecimal():
                quotas.append(int(pair[0]) / int(pair[1]))
    return min(quotas, default=None)


def _mounts(controllers: str, root: Path) -> list[Path]:
    if not controllers:
        return [root]
    if not {"cpu", "memory"} & set(controllers.split(",")):
        return []
    return [root / controllers, *(root / name for name in controllers.split(","))]


def _memory_limits(groups: tuple[Path, ...]) -> list[int]:
    texts = [_text(group / name).strip() for group in groups for name in ("memory.max", "memory.limit_in_bytes")]
    return [int(text) for text in texts if text.isdecimal() and int(text) < _UNLIMITED]


def _entry(line: str) -> tuple[str, str]:
    key, _, value = line.partition(":")
    return key.strip(), value.strip()


def _allowed() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _physical_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _gpus() -> tuple[str, ...]:
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=_GPU_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(re.findall(r"^GPU \d+: (.+?)(?: \(UUID: .*\))?$", listed.stdout, re.MULTILINE))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
