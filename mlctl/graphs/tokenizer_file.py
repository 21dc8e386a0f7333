"""Where the tokenizer of a graph lies, if it has one. Standard library only: the plan asks this."""

from pathlib import Path
from typing import Final

TOKENIZER_FILE: Final = "tokenizer.json"
"""What text is cut into, in the form of the `tokenizers` library."""

GRAPHS_FOLDER: Final = "onnx"
"""Where repositories of the Hugging Face Hub keep a model's graphs; the tokenizer lies above it."""


def tokenizer_of(graph: Path) -> Path | None:
    """The `tokenizer.json` beside the graph, or above it where the graph lies in a folder `onnx`; None without one."""
    folder = graph.parent
    places = (folder, folder.parent) if folder.name == GRAPHS_FOLDER else (folder,)
    return next((each / TOKENIZER_FILE for each in places if (each / TOKENIZER_FILE).is_file()), None)
