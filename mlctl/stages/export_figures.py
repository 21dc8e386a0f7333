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
_OF_THE_DECODER = (("decoder_parity", Kind.PARITY), ("decoder_bytes", Kind.SIZE))
_OF_A_PASS = (
    ("nodes", Kind.SIZE),
    ("bytes", Kind.SIZE),
    ("p50_batch_1", Kind.LATENCY),
    ("difference", Kind.PARITY),
)


def export_promises(settings: ExportSettings, *, decodes: bool = False) -> tuple[Promise, ...]:
    """How far the graph's answers are from its model's, its size, and the graph as every pass left it.

    Where it `decodes`, also how far text that is read token by token is from text that is read as a whole.
    `stages.exporting` and `stages.exporting_decoder` measure them.
    """
    of_graphs = _OF_THE_GRAPH + (_OF_THE_DECODER if decodes else ())
    of_passes = (Promise(figure, kind, name) for name in settings.passes for figure, kind in _OF_A_PASS)
    return (*(Promise(figure, kind) for figure, kind in of_graphs), *of_passes)


def export_conditions(settings: ExportSettings, *, decodes: bool = False) -> tuple[str, ...]:
    """The graph answers as its model does, and so does the decoder's."""
    figures = ("parity", "decoder_parity") if decodes else ("parity",)
    return tuple(f"{figure} <= {settings.tolerance!r}" for figure in figures)
