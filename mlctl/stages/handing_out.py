"""A model leaves the store: its files, under a name that a user chooses."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from mlctl.stages.artifacts import OnnxModel


def hand_out(model: OnnxModel, into: Path) -> None:
    """Copy the graph to the file `into`, over what stood there; external data go beside it, as `INTO.data`.

    Each file is seen either whole or not at all, the data before the graph that points to them. Raises OSError.
    """
    from mlctl.graphs.saving import DATA_NAME

    data = model.folder / DATA_NAME
    if not data.exists():
        _place(into, lambda aside: _copy(model.graph, aside))
        return
    name = f"{into.name}.data"
    content = _pointing_to(model.graph, name)
    _place(into.with_name(name), lambda aside: _copy(data, aside))
    _place(into, lambda aside: _write(aside, content))


def _pointing_to(graph: Path, name: str) -> bytes:
    """The graph's file with `name` for its external data."""
    import onnx

    from mlctl.graphs.inspection import read_graph, stored_tensors

    model = read_graph(graph)
    for tensor in stored_tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for entry in tensor.external_data:
                entry.value = name if entry.key == "location" else entry.value
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _copy(source: Path, aside: Path) -> None:
    shutil.copyfile(source, aside)


def _write(aside: Path, content: bytes) -> None:
    aside.write_bytes(content)


def _place(path: Path, write: Callable[[Path], None]) -> None:
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(aside)
        aside.replace(path)
    except BaseException:
        with suppress(OSError):
            aside.unlink()
        raise
