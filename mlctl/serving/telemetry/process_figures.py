"""What this process takes of the machine, under the names that Prometheus's own clients use."""

import os
import resource
import time
from contextlib import suppress
from pathlib import Path
from typing import Literal

from mlctl.serving.telemetry.exposition import Family, Sample


def process_families() -> tuple[Family, ...]:
    """Processor time, memory, open files, and when it began."""
    found = [_family("process_cpu_seconds_total", "counter", "Processor time, user and system.", time.process_time())]
    # Where a system has no /proc, that is left out.
    with suppress(OSError):
        pages, resident = (int(each) for each in Path("/proc/self/statm").read_text().split()[:2])
        page = resource.getpagesize()
        found += [
            _family("process_virtual_memory_bytes", "gauge", "Address space.", pages * page),
            _family("process_resident_memory_bytes", "gauge", "Memory that is in use.", resident * page),
            _family(
                "process_open_fds", "gauge", "Open files and sockets.", sum(1 for _ in Path("/proc/self/fd").iterdir())
            ),
            _family("process_start_time_seconds", "gauge", "When the process began, as Unix time.", _began()),
        ]
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (*found, _family("process_max_fds", "gauge", "Files and sockets that may be open.", limit))


def _family(name: str, kind: Literal["counter", "gauge"], meaning: str, value: float) -> Family:
    return Family(name, kind, meaning, (Sample((), value),))


def _began() -> float:
    """Unix time, by the fields of proc_pid_stat(5)."""
    # The second field is a name, which may hold blanks and brackets: what follows is counted from its end.
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    return round(time.time() - since_boot + ticks / os.sysconf("SC_CLK_TCK"), 2)
