"""Small networks over tokens, with weights that show, and their graphs."""

from pathlib import Path
from typing import Final

import torch
from torch import nn

from mlctl.graphs.decoder_export import PAST, convert_decoder
from mlctl.graphs.decoding import write_decoder
from mlctl.graphs.export import BATCH, export
from mlctl.graphs.pass_list import passes_named
from mlctl.graphs.passes import rewritten
from mlctl.models.stateful import Stateful, Stepping, state_form
from mlctl.models.table import build
from mlctl.recipe.export import STANDARD_PASSES
from mlctl.recipe.networks import GruSettings, LstmSettings, NetworkSettings, TransformerSettings

VOCABULARY, CONTEXT = 11, 9
NETWORKS: Final[dict[str, NetworkSettings]] = {
    "transformer": TransformerSettings(width=16, layers=2, heads=2),
    "lstm": LstmSettings(embedding=16, hidden=16, tied=True),
    "gru": GruSettings(embedding=8, hidden=16),
}
OPEN: Final = {("tokens", 1): "sequence", ("logits", 1): "sequence"}


def lively(name: str) -> nn.Module:
    """The network of that name, in evaluation mode."""
    torch.manual_seed(0)
    network = build(NETWORKS[name], ((CONTEXT,),), VOCABULARY).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape) * (0.4 if parameter.ndim > 1 else 1.0))
    return network


def tokens(batch: int, length: int) -> torch.Tensor:
    """Random tokens, the same every time."""
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(length))


def export_whole(name: str, into: Path, opset: int = 20) -> Path:
    """`into`/model.onnx, from tokens to logits."""
    return export(
        lively(name),
        example=(tokens(2, CONTEXT),),
        input_names=("tokens",),
        output_name="logits",
        opset=opset,
        metadata={},
        into=into,
        open_dimensions=OPEN,
    ).path


def export_decoder(name: str, into: Path, opset: int = 20, external_above: int = 10**9) -> int:
    """`into`/decoder.onnx beside a model.onnx that is there; the bytes that it took."""
    network = lively(name)
    assert isinstance(network, Stateful)
    form = state_form(network)
    axes = {form.batch_axis: BATCH} | ({} if form.growing_axis is None else {form.growing_axis: PAST})
    proto = convert_decoder(Stepping(network).eval(), form.example(2, 3), axes, opset)
    return write_decoder(rewritten(proto, passes_named(STANDARD_PASSES)), into, external_above=external_above)


if __name__ == "__main__":
    import sys

    for each in sys.argv[2:]:
        folder = Path(sys.argv[1]) / each
        folder.mkdir()
        export_whole(each, folder)
        export_decoder(each, folder)
