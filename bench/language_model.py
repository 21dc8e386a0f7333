"""A language model against 5-gram Kneser-Ney, in bits per character of held-out text: the sources of Python's library.

    python bench/language_model.py [--megabytes N] [--epochs N] [--vocabulary N] [--json]

One recipe prepares the text with byte-pair encoding, trains a transformer and measures it on the last twentieth. The
baseline learns the same train split and is measured on the same test split, once over the same tokens and once over
characters.
"""

import argparse
import json
import subprocess
import sys
import sysconfig
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from kneser_ney import KneserNey
from tokenizers import Tokenizer

ORDER = 5
RECIPE = """\
mlctl: 1
name: language
seed: 7
prepare:
  task: language-modeling
  source: corpus.txt
  tokens: {{kind: bpe, vocabulary: {vocabulary}}}
  context: 128
  split: {{train: 0.9, validation: 0.05, test: 0.05}}
train:
  model: {{arch: transformer, width: 256, layers: 4, heads: 4, dropout: 0.05}}
  epochs: {epochs}
  batch_size: 32
  optimizer: {{name: adamw, lr: 2.0e-3, betas: [0.9, 0.95], weight_decay: 0.1}}
  schedule: {{name: cosine, warmup: 0.05, floor: 0.05}}
  clip_norm: 1.0
eval: {{latency: null}}
"""


@dataclass(frozen=True)
class Measured:
    """Bits per character on the test split."""

    transformer: float
    tokens_of_5: float
    characters_of_5: float
    megabytes: float
    seconds: float


def corpus(megabytes: float) -> str:
    """Python's own modules and packages one after the other, ASCII alone, up to that size."""
    library = Path(sysconfig.get_paths()["stdlib"])
    files = [*sorted(library.glob("*.py")), *sorted(library.glob("[a-z]*/**/*.py"))]
    parts, size = [], 0
    for file in files:
        if not {"site-packages", "test", "tests", "idlelib", "lib2to3"} & set(file.parts):
            text = file.read_bytes().decode(errors="ignore")
            if text.isascii() and size < megabytes * 1e6:
                parts.append(text)
                size += len(text)
    return "".join(parts)


def bits_per_character(train: str, test: str, tokenizer: Tokenizer | None) -> float:
    """What Kneser-Ney needs for `test`, over the tokenizer's tokens or over characters."""
    if tokenizer is None:
        streams = [np.frombuffer(text.encode(), np.uint8).astype(np.int64) for text in (train, test)]
        model = KneserNey(streams[0], 128, ORDER)
        return float(model.bits(streams[1]).mean())
    streams = [np.array(tokenizer.encode(text).ids) for text in (train, test)]
    model = KneserNey(streams[0], tokenizer.get_vocab_size(), ORDER)
    return float(model.bits(streams[1]).sum()) / len(test)


def measure(megabytes: float, epochs: int, vocabulary: int) -> Measured:
    """Train, evaluate, and compute the baseline."""
    text = corpus(megabytes)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "corpus.txt").write_text(text)
        (folder / "language.yaml").write_text(RECIPE.format(vocabulary=vocabulary, epochs=epochs))
        started = time.perf_counter()
        command = [sys.executable, "-m", "mlctl", "eval", str(folder / "language.yaml"), "--json"]
        said = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
        seconds = time.perf_counter() - started
        tokenizer = Tokenizer.from_file(str(next(folder.glob(".mlctl/steps/*/prepare/tokenizer.json"))))
    figures = said["steps"][-1]["figures"]
    own = next(each["value"] for each in figures if each["figure"] == "bits_per_character")
    train, test = text[: int(0.9 * len(text))], text[int(0.95 * len(text)) :]
    return Measured(
        own,
        bits_per_character(train, test, tokenizer),
        bits_per_character(train, test, None),
        len(text) / 1e6,
        seconds,
    )


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--vocabulary", type=int, default=4096)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = measure(asked.megabytes, asked.epochs, asked.vocabulary)
    if asked.json:
        print(json.dumps(asdict(found)))
        return
    print(f"{found.megabytes:.1f} MB of Python, bits per character on the last 5 %; trained in {found.seconds:.0f} s")
    print(f"transformer                  {found.transformer:.3f}")
    print(f"Kneser-Ney, 5 tokens         {found.tokens_of_5:.3f}")
    print(f"Kneser-Ney, 5 characters     {found.characters_of_5:.3f}")


if __name__ == "__main__":
    main()
