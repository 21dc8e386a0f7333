"""What models that the command line names are called."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from mlctl.stages.inspecting import GRAPH, WEIGHTS, lineage_of


def named(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """Every model file under a name of its own: its step's, its file's, or its folder's; numbered where names meet."""
    taken: set[str] = set()
    for path in paths:
        lineage, _ = lineage_of(path)
        is_usual = path.name in (GRAPH, WEIGHTS)
        plain = lineage.step if lineage else path.resolve().parent.name if is_usual else path.stem
        name = base = re.sub(r"[\]\s]", "_", plain) or "model"
        number = 1
        while name in taken:
            number += 1
            name = f"{base}-{number}"
        taken.add(name)
        yield name, path
