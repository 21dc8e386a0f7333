"""A small encoder of sentences as other tools make them, with its tokenizer beside the graph."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from graphs_from_elsewhere import model
from onnx import TensorProto, helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

WORDS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "sat", "on", "a", "mat", "café", "!", "##s")
PORTS = ("input_ids", "attention_mask", "token_type_ids")


def tokenizer(max_length: int | None = None, direction: str = "right") -> Tokenizer:
    """WordPiece as BERT's, of a few words; padded to 16 tokens, as those of sentence encoders are on the Hub.

    With `max_length` it cuts texts, at their end or, going `left`, at their beginning.
    """
    made = Tokenizer(models.WordPiece({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    made.enable_padding(length=16)
    if max_length is not None:
        made.enable_truncation(max_length, direction=direction)
    return made


def encoder(ports: Sequence[str] = PORTS, width: int = 6, length: int | str = "tokens") -> onnx.ModelProto:
    """The mean of the vectors of the words that the mask names; `token_type_ids` add nothing."""
    words = np.random.default_rng(4).normal(size=(len(WORDS), width)).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["vectors"], "look_up"),
        helper.make_node("Cast", ["attention_mask"], ["weights"], "cast_mask", to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["weights", "last"], ["wide"], "widen"),
        helper.make_node("Mul", ["vectors", "wide"], ["masked"], "weigh"),
        helper.make_node("ReduceSum", ["masked", "middle"], ["total"], "add", keepdims=0),
        helper.make_node("ReduceSum", ["wide", "middle"], ["count"], "count_words", keepdims=0),
        helper.make_node("Div", ["total", "count"], ["mean"], "mean"),
        helper.make_node("MatMul", ["mean", "projection"], ["vector"], "project"),
    ]
    projection = np.random.default_rng(6).normal(size=(width, 4)).astype(np.float32)
    return model(
        nodes,
        {name: (TensorProto.INT64, ["rows", length]) for name in ports},
        {"vector": (TensorProto.FLOAT, ["rows", 4])},
        {"words": words, "projection": projection, "last": np.array([2]), "middle": np.array([1])},
    )


def save_encoder(folder: Path) -> Path:
    """The graph and its tokenizer in the folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder(), folder / "model.onnx")
    tokenizer(max_length=16).save(str(folder / "tokenizer.json"))
    return folder / "model.onnx"
