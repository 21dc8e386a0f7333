"""The second pass: gathered rows become arrays per split, with their statistics."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlctl.data.gathering import Gathered
from mlctl.data.staging import ArrayWriter, StagedInput
from mlctl.data.statistics import InputStatistics, Moments, SplitStatistics, class_counts
from mlctl.recipe.prepare import SPLITS

TARGET_FILE = "target.npy"
ROW_FILE = "row.npy"


def write_splits(
    gathered: Gathered,
    splits: NDArray[np.int8],
    names: tuple[tuple[str, tuple[str, ...]], ...],
    labels: tuple[str, ...],
    into: Path,
) -> dict[str, SplitStatistics]:
    """Write every split's arrays below `into` and give their statistics.

    `splits` [rows] are indices of SPLITS; `names` hold each input's name and the names along its first axis; `labels`
    is empty where the target is a number, or where there is none and its array is [rows, 0].
    """
    for name in SPLITS:
        (into / name).mkdir()
    inputs = [
        _write_input(staged, splits, name, axis, into)
        for staged, (name, axis) in zip(gathered.inputs, names, strict=True)
    ]
    result = {}
    for index, split in enumerate(SPLITS):
        chosen = splits == index
        targets = gathered.targets[chosen]
        np.save(into / split / TARGET_FILE, targets, allow_pickle=False)
        np.save(into / split / ROW_FILE, gathered.rows[chosen], allow_pickle=False)
        moments = Moments(1)
        is_number = not labels and targets.ndim == 1
        if is_number:
            moments.add(targets)
        result[split] = SplitStatistics(
            rows=len(targets),
            inputs=tuple(each[index] for each in inputs),
            target=moments.summaries(("target",))[0] if is_number else None,
            classes=class_counts(targets.astype(np.int64), labels) if labels else (),
        )
    return result


def _write_input(
    staged: StagedInput, splits: NDArray[np.int8], name: str, axis: tuple[str, ...], into: Path
) -> tuple[InputStatistics, ...]:
    """Write one input's array for every split; the statistics in the order of SPLITS."""
    moments = [Moments(len(axis)) for _ in SPLITS]
    start = 0
    with ExitStack() as stack:
        writers = [
            stack.enter_context(
                ArrayWriter(into / split / f"{name}.npy", staged.dtype, (int((splits == index).sum()), *staged.shape))
            )
            for index, split in enumerate(SPLITS)
        ]
        for batch in staged.batches():
            of_batch = splits[start : start + len(batch)]
            start += len(batch)
            for index, writer in enumerate(writers):
                chosen = batch[of_batch == index]
                writer.append(chosen)
                moments[index].add(chosen)
    return tuple(InputStatistics(name, each.summaries(axis)) for each in moments)
