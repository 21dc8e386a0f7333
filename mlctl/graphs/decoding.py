"""The graph that reads a text token by token, and hands on what it knows of the tokens before.

It lies as `decoder.onnx` beside `model.onnx`: tokens int64 [batch, sequence] and a state in, logits [batch, sequence,
vocabulary] and the next state out. Of the state's open dimensions the first is the batch; one behind it, if any, counts
tokens read so far, and is 0 at the start.
"""

from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx

from mlctl.graphs.parity import differences
from mlctl.graphs.saving import FILE_NAME, save_graph
from mlctl.runtime.answers import Model
from mlctl.runtime.generation import DECODER_NAME, empty_state
from mlctl.runtime.session import OnnxSession

_TEXTS: Final = 4
_TOKENS: Final = 64
"""Of each text: read one by one they take as many calls."""


def write_decoder(proto: onnx.ModelProto, into: Path, *, external_above: int) -> int:
    """Write `decoder.onnx` into the folder that holds `model.onnx`, and check it; the bytes that this took.

    Where the weights of `model.onnx` are external data, those that both share are stored once.
    """
    before = _bytes(into)
    path = save_graph(proto, into, external_above=external_above, name=DECODER_NAME, beside=into / FILE_NAME)
    onnx.checker.check_model(path, full_check=True)
    return _bytes(into) - before


def decoder_difference(whole: Model, session: OnnxSession, tokens: npt.NDArray[Any]) -> float:
    """How far logits of a decoder's graph are from those of `whole`, which reads [B, T] int64 at once.

    The first few texts of `tokens` [N, T] and the first tokens of each are read: half of them in one call, the others
    one by one. The difference of two numbers is the absolute or the relative one, whichever is smaller; this is the
    largest.
    """
    texts = np.ascontiguousarray(tokens[:_TEXTS, :_TOKENS], np.int64)
    half = (texts.shape[1] + 1) // 2
    state = empty_state(session, len(texts))
    found = []
    for part in np.split(texts, range(half, texts.shape[1]), axis=1):
        logits, state = session.all((np.ascontiguousarray(part), state))
        found.append(logits)
    expected, given = np.asarray(whole((texts,)), np.float64), np.concatenate(found, axis=1).astype(np.float64)
    return float(np.minimum(*differences(expected, given)).max())


def _bytes(folder: Path) -> int:
    return sum(each.stat().st_size for each in folder.iterdir())
