"""Kills a process at every instant at which it touches the disk.

`python crashing.py FOLDER` runs a small life, again and again in new stores, each time killed one step later: at the
first thing that Python tells its auditors about files, at the second, and so on, until a run ends by itself. After
each kill it looks at the store, runs the life to its end, and prints one JSON line about both.
"""

import json
import os
import signal
import sys
from pathlib import Path

from small_world import World, outcomes, step

from mlctl.engine.plan import Life
from mlctl.engine.stage import Work
from mlctl.engine.verification import verify_store

TOUCHES = ("open", "os.", "shutil.", "fcntl.", "pathlib.")
SPEAKING = ("os.listdir", "os.scandir", "os.walk", "os.fwalk", "pathlib.Path.glob", "pathlib.Path.rglob")


def checkpoint(work: Work) -> None:
    """Leave something to go on from, as training does."""
    (work.resume / "checkpoint.writing").write_text("half")
    (work.resume / "checkpoint.writing").replace(work.resume / "checkpoint")


def small_life(world: World) -> Life:
    """Two steps, the second with a checkpoint."""
    above = step("above", sources=(world.folder.parent / "rows.csv",))
    return world.life(above, step("below", above, also=checkpoint))


def killed_at(instant: int, world: World, *, is_forced: bool) -> bool:
    """Run in a child that is killed at its `instant`th touch of the disk; whether it was."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1] == signal.SIGKILL
    left = instant

    def count(event: str, arguments: object) -> None:
        nonlocal left
        if event.startswith(TOUCHES) and event not in SPEAKING:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    world.run(small_life(world), *(["above"] if is_forced else []))
    os._exit(0)


def contents(world: World) -> dict[str, str]:
    """Every published file but the manifests, which hold times."""
    root = world.store.root / "artifacts"
    files = (path for path in root.rglob("*") if path.is_file() and path.name != "manifest.json")
    return {path.relative_to(root).as_posix(): path.read_text() for path in sorted(files)}


def report(world: World) -> dict[str, object]:
    """What is in the store now, and after a run to the end."""
    damage = [check.damage for check in verify_store(world.store) if check.damage]
    verdict = world.run(small_life(world))
    return {
        "damage": damage,
        "outcomes": outcomes(verdict),
        "exit_code": verdict.exit_code,
        "contents": contents(world),
        "links": sorted(
            path.name for path in world.store.root.glob("steps/small/[!.]*") if (path / "text.txt").exists()
        ),
        "left": sorted(path.name for path in (world.store.root / "work").iterdir()),
    }


def main(folder: Path) -> None:
    """Kill at every instant of a first run, then at every instant of a run that makes a step again."""
    (folder / "rows.csv").write_text("a,b\n")
    for is_forced in (False, True):
        instant, is_killed = 0, True
        while is_killed:
            instant += 1
            world = World(folder / f"{is_forced}{instant}")
            if is_forced:
                world.run(small_life(world))
            is_killed = killed_at(instant, world, is_forced=is_forced)
            line = {"is_forced": is_forced, "instant": instant, "is_killed": is_killed, **report(world)}
            sys.stdout.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
