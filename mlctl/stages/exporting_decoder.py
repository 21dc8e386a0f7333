"""The decoder of a language model: its graph beside the model's own, and the comparison of both ways to read a text."""

from typing import TYPE_CHECKING

from mlctl.engine.figures import Figure, Kind
from mlctl.engine.stage import Work
from mlctl.graphs.decoder_export import PAST, convert_decoder
from mlctl.graphs.decoding import decoder_difference, write_decoder
from mlctl.graphs.export import BATCH
from mlctl.graphs.metadata import GraphMetadata
from mlctl.graphs.pass_list import passes_named
from mlctl.graphs.passes import rewritten
from mlctl.graphs.properties import write_properties
from mlctl.models.stateful import Stateful, Stepping, state_form
from mlctl.recipe.export import ExportSettings
from mlctl.runtime.answers import Arrays
from mlctl.runtime.generation import DECODER_NAME
from mlctl.runtime.session import OnnxSession
from mlctl.training.devices import resolve_device
from mlctl.training.trained import as_callable
from mlctl.units import parse_size

if TYPE_CHECKING:
    from torch import nn

_EXAMPLE_BATCH = 2
_EXAMPLE_PAST = 3


def finished_decoder(
    network: "nn.Module", rows: Arrays, metadata: GraphMetadata, settings: ExportSettings, work: Work
) -> tuple[Figure, ...]:
    """Write `decoder.onnx` into the step's folder, beside `model.onnx`, and compare it with the stateful `network`.

    `rows` hold held-out tokens [N, T]. Passes are those of the model's own graph, judged by the comparison alone.
    """
    assert isinstance(network, Stateful)
    form = state_form(network)
    axes = {form.batch_axis: BATCH} | ({} if form.growing_axis is None else {form.growing_axis: PAST})
    step = Stepping(network).eval()
    proto = convert_decoder(step, form.example(_EXAMPLE_BATCH, _EXAMPLE_PAST), axes, settings.opset)
    write_properties(proto, metadata.to_properties())
    proto = rewritten(proto, passes_named(settings.passes), work.tell)
    size = write_decoder(proto, work.folder, external_above=parse_size(settings.external_data_above))
    session = OnnxSession(work.folder / DECODER_NAME, threads=work.threads)
    found = decoder_difference(as_callable(network, resolve_device("cpu")), session, rows[0])
    return (
        Figure("decoder_parity", Kind.PARITY, found, better="lower"),
        Figure("decoder_bytes", Kind.SIZE, size, "bytes"),
    )
