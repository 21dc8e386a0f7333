"""The paired difference of a gate's two sides."""

from collections.abc import Mapping
from pathlib import Path

from mlctl.engine.gates import Difference, Gate


def paired_difference(gate: Gate, folders: Mapping[str, Path]) -> Difference | None:
    """The interval of left minus right; None where the figures have no paired results to go by.

    `folders` are the artifacts of the steps that the gate names.
    """
    names = gate.comparison.figures
    steps = {name.step for name in names}
    if len(steps) != 1 or not steps <= set(folders) or any(name.model is None for name in names):
        return None
    from mlctl.metrics.evaluation_files import INDEX_FILE
    from mlctl.stages.gate_statistics import gate_difference

    folder = folders[steps.pop()]
    return gate_difference(gate, folder) if (folder / INDEX_FILE).is_file() else None
