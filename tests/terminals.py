"""A terminal of one's own, for the command to write to."""

import os
import pty
import select
import shlex
import subprocess
import sys

from conftest import COMMAND, Lab


def on_terminal(lab: Lab, line: str, **environment: str) -> str:
    """What the command writes to a terminal, whose own line ends are made plain again; it must succeed."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *shlex.split(line)],
        cwd=lab.folder,
        env={**lab.environment(), "PYTHONUTF8": "1", **environment},
        stdin=subprocess.DEVNULL,
        stdout=follower,
        stderr=follower,
        start_new_session=True,
    )
    os.close(follower)
    found = b""
    while select.select([leader], [], [], 60)[0]:
        try:
            part = os.read(leader, 4096)
        except OSError:  # the last one to write has gone
            break
        found += part
    os.close(leader)
    assert process.wait(timeout=60) == 0
    return found.decode().replace("\r\n", "\n")
