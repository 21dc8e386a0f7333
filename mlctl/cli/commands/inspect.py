"""`mlctl inspect`: what a model file is."""

from pathlib import Path
from typing import Annotated

import typer

from mlctl.cli.options import DebugFlag, JsonFlag


def inspect(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="An ONNX or safetensors file, or a step's folder.")],
    nodes: Annotated[bool, typer.Option("--nodes", help="List every node or tensor; --json always does.")] = False,
    open_size: Annotated[
        int,
        typer.Option(
            "--open-size", min=1, max=1 << 20, metavar="N", help="Size of open dimensions beside the batch, for FLOPs."
        ),
    ] = 64,
    json: JsonFlag = False,
    debug: DebugFlag = False,
) -> int:
    """Say what a model takes, gives, holds and computes, and where it came from; nothing is run."""
    from mlctl.cli.inspect_view import print_model, show_model
    from mlctl.stages.inspecting import describe_model

    found = describe_model(model, open_size=open_size)
    if json:
        print_model(found)
    else:
        show_model(found, with_nodes=nodes)
    return 0
