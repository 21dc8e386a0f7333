"""Where this process stands among those that train one model, as torchrun or Slurm tell it. No torch here."""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil
from typing import Final

from mlctl.errors import UsageError

LAUNCHER: Final = "mlctl"
"""What `mlctl train --nproc-per-node` calls its processes, in ROLE_NAME."""
START_AGAIN: Final = 75
"""Exit code by which a process asks mlctl's launcher to start all of them again: EX_TEMPFAIL of sysexits.h."""
STOPS: Final = (signal.SIGINT, signal.SIGTERM)
LARGEST_PORT: Final = 65535
FIRST_SLURM_PORT: Final = 20_000
SLURM_PORTS: Final = 10_000


@dataclass(frozen=True)
class Place:
    """One process among `count`: the one of `rank` 0 leads, and `local_count` of them run on this machine.

    They meet at `address`:`port`, where the leader listens, or whoever launched them (`meets_at_launcher`).
    """

    rank: int
    count: int
    local_rank: int
    local_count: int
    address: str
    port: int
    meets_at_launcher: bool = False
    can_restart: bool = False
    """Whether mlctl's own launcher watches over the process, and starts all again where one is killed."""
    cores: int | None = None
    """Cores of this process where whoever started it has dealt them out; None where it has not."""

    @property
    def is_leader(self) -> bool:
        """Whether this is the process that speaks, keeps checkpoints and publishes."""
        return self.rank == 0


@dataclass(frozen=True)
class Launch:
    """How many processes on each machine, and how many machines, which meet at `endpoint`, HOST:PORT."""

    processes: int
    machines: int = 1
    endpoint: str | None = None

    @property
    def is_local(self) -> bool:
        """Whether all processes are on this machine, and so have one store."""
        return self.machines == 1


def place_in(environment: Mapping[str, str]) -> Place | None:
    """The place that torchrun's or Slurm's variables give; None for a process on its own.

    Raises UsageError where the variables contradict each other.
    """
    if "WORLD_SIZE" in environment:
        return _of_torchrun(environment)
    if "SLURM_STEP_ID" in environment and "SLURM_PROCID" in environment:
        return _of_slurm(environment)
    return None


def is_launched(environment: Mapping[str, str]) -> bool:
    """Whether torchrun, or `mlctl train --nproc-per-node`, started this process."""
    return "WORLD_SIZE" in environment


def stopped_by(code: int) -> int | None:
    """The signal by which a process with that exit code was told to stop: given to all that are left when one ends."""
    return next((number for number in STOPS if code in (-number, 128 + number)), None)


def is_verdict(code: int) -> bool:
    """Whether a process with that exit code has come to an end of its own, which another start would not change."""
    return code >= 0 and code != START_AGAIN and stopped_by(code) is None


def _of_torchrun(environment: Mapping[str, str]) -> Place | None:
    count = _number(environment, "WORLD_SIZE", 1)
    if count == 1:
        return None
    # Kubernetes' operators set no local numbers: there, every process has a machine of its own.
    local_count = _number(environment, "LOCAL_WORLD_SIZE", 1, default=1)
    return Place(
        rank=_number(environment, "RANK", 0, below=count),
        count=count,
        local_rank=_number(environment, "LOCAL_RANK", 0, below=local_count, default=0),
        local_count=local_count,
        address=_text(environment, "MASTER_ADDR"),
        port=_number(environment, "MASTER_PORT", 1, below=LARGEST_PORT + 1),
        meets_at_launcher=environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
        can_restart=environment.get("ROLE_NAME") == LAUNCHER,
    )


def _of_slurm(environment: Mapping[str, str]) -> Place | None:
    tasks = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    count = _number(environment, tasks, 1)
    if count == 1:
        return None
    nodes = _number(environment, "SLURM_NNODES", 1, default=1)
    local_rank = _number(environment, "SLURM_LOCALID", 0, default=0)
    cores = _number(environment, "SLURM_CPUS_PER_TASK", 1) if "SLURM_CPUS_PER_TASK" in environment else None
    return Place(
        rank=_number(environment, "SLURM_PROCID", 0, below=count),
        count=count,
        local_rank=local_rank,
        local_count=max(ceil(count / nodes), local_rank + 1),
        address=environment.get("MASTER_ADDR") or _first_host(environment),
        port=_slurm_port(environment),
        cores=cores,
    )


def _first_host(environment: Mapping[str, str]) -> str:
    name = "SLURM_STEP_NODELIST" if "SLURM_STEP_NODELIST" in environment else "SLURM_JOB_NODELIST"
    return first_host(_text(environment, name))


def first_host(hosts: str) -> str:
    """The first name in a list as Slurm writes it: `gpu[007-012,020],login1` begins with `gpu007`."""
    found = re.match(r"([^\[,]+)(?:\[([^\],-]+)[^\]]*\]([^\[,]*))?", hosts)
    if not found:
        raise UsageError(f"{hosts!r} is no list of hosts", next="start the command with `srun`")
    before, number, after = found.groups(default="")
    return before + number + after


def _slurm_port(environment: Mapping[str, str]) -> int:
    """A port that all processes of a job step come to, and another step of the job does not."""
    if "MASTER_PORT" in environment:
        return _number(environment, "MASTER_PORT", 1, below=LARGEST_PORT + 1)
    job, step = (_number(environment, name, 0, default=0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    return FIRST_SLURM_PORT + (job + step) % SLURM_PORTS


def _text(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise UsageError(
            f"there are several processes, and {name} is not set",
            next="start them with `mlctl train --nproc-per-node`, `torchrun` or `srun`",
        )
    return value


def _number(
    environment: Mapping[str, str], name: str, least: int, *, below: int | None = None, default: int | None = None
) -> int:
    if default is not None and name not in environment:
        return default
    text = _text(environment, name)
    value = int(text) if re.fullmatch(r"\d{1,12}", text) else -1
    if value < least or (below is not None and value >= below):
        end = f" to {below - 1}" if below is not None else " or more"
        raise UsageError(
            f"the environment variable {name} is {text!r}, where a number from {least}{end} belongs",
            next="start the processes with `mlctl train --nproc-per-node`, `torchrun` or `srun`, which set it",
        )
    return value
