"""The figures of a pruning: of the network before, as it was cut, and as it is now."""

from collections.abc import Iterator
from typing import Final

from mlctl.engine.figures import Kind, Promise
from mlctl.recipe.vocabulary import TaskVocabulary

BEFORE: Final = "before"
"""The model as it came."""
CUT: Final = "cut"
"""The model as it was cut for the last time, before it learnt again."""
SIZES = ("parameters", "sparsity", "flops", "bytes")


def prune_promises(vocabulary: TaskVocabulary, *, is_cut_at_once: bool) -> Iterator[Promise]:
    """The watched figures on the validation split in all three states; size, work and speed before and now.

    What is cut while it learns is in no state in between.
    """
    for state in (BEFORE, CUT, None) if is_cut_at_once else (BEFORE, None):
        yield from (Promise(f"validation_{name}", Kind.METRIC, state) for name in vocabulary.watched)
    for state in (BEFORE, None):
        yield from (Promise(figure, Kind.SIZE, state) for figure in SIZES)
        yield Promise("p50_batch_1", Kind.LATENCY, state)
    yield Promise("faster_than_parent", Kind.LATENCY)
