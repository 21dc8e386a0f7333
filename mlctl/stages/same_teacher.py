"""That a training which was killed goes on with the served teacher that it began with."""

import json
from pathlib import Path
from typing import Final

from mlctl.compression.distillation.teacher import Teacher
from mlctl.engine.stage import Work
from mlctl.engine.store import write_whole
from mlctl.errors import MachineError

FILE: Final = "teacher.json"
"""In the folder that outlives a kill: the teacher's identity, and its name for people."""


def require_same_teacher(url: str, teacher: Teacher, work: Work) -> None:
    """Note the teacher that is served at `url`, or compare it with the one that an earlier process noted.

    A fingerprint knows the address of a server, and not what it serves. Of several processes the leader looks. Raises
    MachineError where another teacher answers than did before.
    """
    if work.company.is_follower:
        return
    path, name = work.resume / FILE, work.choices["teacher"]
    before = _noted(path)
    if before is None:
        write_whole(path, json.dumps([teacher.identity, name]) + "\n")
    elif before[0] != teacher.identity:
        raise MachineError(
            f"{name} answers now, and {before[1]} did when this training began",
            where=url,
            next="serve that one again to go on, or begin anew with `--force STEP`; "
            "a version in the address (.../versions/VERSION) keeps it the same",
        )


def _noted(path: Path) -> tuple[str, str] | None:
    """Identity and name; None where nothing was noted, or a power cut left nothing of it."""
    try:
        identity, name = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return identity, name
