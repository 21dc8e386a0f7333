"""A graph as every peer's server computes it, on as many threads as `THREADS` says, one by default."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime


def session_of(path: str) -> Any:
    """The graph, loaded."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("THREADS", "1"))
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answering(path: str, tokenizer: str | None) -> Callable[[Any], Any]:
    """From a body's content to an answer."""
    session = session_of(path)
    if tokenizer is None:
        name, shape = session.get_inputs()[0].name, session.get_inputs()[0].shape[1:]

        def answer(rows: Any) -> Any:
            return session.run(None, {name: np.asarray(rows, np.float32).reshape(-1, *shape)})[0]

        return answer
    from tokenizers import Tokenizer

    tokens = Tokenizer.from_file(tokenizer)
    tokens.enable_padding()
    tokens.enable_truncation(512)

    def embed(texts: Any) -> Any:
        found = tokens.encode_batch(texts)
        feed = {
            "input_ids": np.array([each.ids for each in found]),
            "attention_mask": np.array([each.attention_mask for each in found]),
        }
        return session.run(None, feed)[0]

    return embed
