"""The figures of every step that ends in an exported graph, wherever its model came from."""

from mlctl.engine.figures import Kind, Promise
from mlctl.recipe.export import ExportSettings

PARITY_BATCHES = (1, 2, 17)

_OF_THE_GRAPH = (
    ("parity", Kind.PARITY),
    *((f"parity_batch_{size}", Kind.PARITY) for size in PARITY_BATCHES),
    ("max_absolute", Kind.PARITY),
    ("max_relative", Kind.PARITY),
    ("agreement", Kind.PARITY),
    ("opset", Kind.SIZE),
    ("nodes", Kind.SIZE),
    ("parameters", Kind.SIZE),
    ("bytes", Kind.SIZE),
)
_OF_A_PASS = (
    ("nodes", Kind.SIZE),
    ("bytes", Kind.SIZE),
    ("p50_batch_1", Kind.LATENCY),
    ("difference", Kind.PARITY),
)


def export_promises(settings: ExportSettings) -> tuple[Promise, ...]:
    """How far the graph's answers are from its model's, its size, and the graph as every pass left it.

    `stages.exporting` measures them.
    """
    of_passes = (Promise(figure, kind, name) for name in settings.passes for figure, kind in _OF_A_PASS)
    return (*(Promise(figure, kind) for figure, kind in _OF_THE_GRAPH), *of_passes)


def export_conditions(settings: ExportSettings) -> tuple[str, ...]:
    """The graph answers as its model does."""
    return (f"parity <= {settings.tolerance!r}",)
