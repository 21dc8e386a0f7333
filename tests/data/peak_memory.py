"""How much memory preparing a table takes at its peak, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

_PREPARE = """
import sys
from pathlib import Path
from mlctl.data.preparation import prepare
from mlctl.data.reading import Number, Numbers, Reading
from mlctl.events import silent
from mlctl.recipe.prepare import RowData
base = Path(sys.argv[1])
(base / "out").mkdir()
reading = Reading("regression", (Numbers("features", ("x*",)),), Number("y"))
prepare(reading, RowData(task="any", source=("t.*",)), base, base / "out", 7, silent)
status = Path("/proc/self/status").read_text().split()
print(status[status.index("VmHWM:") + 1])
"""
_PLAIN = {**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
"""An environment in which allocators keep little that is free, so that a peak is what is used."""


def peak_of_preparing(folder: Path) -> int:
    """The peak of resident memory, in kB, where the table `t.*` in the folder is prepared: columns `x*`, target `y`."""
    command = [sys.executable, "-c", _PREPARE, str(folder)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=_PLAIN).stdout)
