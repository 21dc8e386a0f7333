"""A batcher for a model that has just been loaded."""

from collections.abc import Sequence

from mlctl.runtime.answers import Arrays
from mlctl.runtime.running import Running
from mlctl.serving.batching.batcher import Batcher
from mlctl.serving.batching.computing import Model
from mlctl.serving.batching.layout import layout_of
from mlctl.serving.batching.measuring import measure
from mlctl.serving.batching.workers import choose_worker
from mlctl.serving.settings import Batching, Execution
from mlctl.serving.telemetry.statistics import ModelStatistics


def load_batcher(
    session: Running,
    execution: Execution,
    batching: Batching,
    statistics: ModelStatistics,
    *,
    pad: int = 0,
    given: Sequence[Arrays] = (),
) -> Batcher:
    """A batcher for a loaded graph, whose costs are measured: that takes 20 ms for a fast graph, about 1 s else.

    `pad` is the token that fills up shorter rows, `given` rows [n, ...] of every input to measure with; where there
    are none, they are made up. It may be called on any thread.
    """
    measured = measure(session, layout_of(session.inputs, session.outputs, pad), batching.max_size, given)
    model = Model(session, measured.layout, measured.known_good)
    worker = choose_worker(model.compute, execution, measured.is_short if measured.is_fast else None)
    return Batcher(model.layout, measured.costs, worker, batching, statistics)
