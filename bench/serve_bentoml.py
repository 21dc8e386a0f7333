"""A graph behind BentoML, with its adaptive batching: python bench/serve_bentoml.py MODEL PORT [--tokenizer FILE].

`POST /predict` takes {"rows": [...]} or {"texts": [...]}.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import bentoml
import numpy as np

TIMEOUT = {"timeout": 60, "max_concurrency": 1024}
BATCH = int(os.environ.get("BATCH", "32"))


@bentoml.service(workers=1, traffic=TIMEOUT)  # type: ignore[untyped-decorator, unused-ignore]
class Graph:
    """One ONNX graph on one thread."""

    def __init__(self) -> None:
        from serve_answering import answering

        self.answer = answering(os.environ["GRAPH"], os.environ.get("TOKENIZER"))

    @bentoml.api(batchable=True, max_batch_size=BATCH, max_latency_ms=60_000)  # type: ignore[untyped-decorator, unused-ignore]
    def predict(self, rows: list[Any]) -> list[Any]:
        """The answers to a batch."""
        given = rows if isinstance(rows[0], str) else np.asarray(rows, np.float32)
        return [each.tolist() for each in self.answer(given)]


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--tokenizer")
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    environment = {
        **os.environ, "GRAPH": asked.model, "BATCH": str(asked.batch), "PYTHONPATH": str(Path(__file__).parent),
        "BENTOML_DO_NOT_TRACK": "True",
    }  # fmt: skip
    if asked.tokenizer:
        environment["TOKENIZER"] = asked.tokenizer
    program = Path(sys.executable).with_name("bentoml")
    command = [str(program), "serve", "serve_bentoml:Graph", "--host", "127.0.0.1", "--port", str(asked.port)]
    subprocess.run(command, env=environment, check=True, cwd=Path(__file__).parent)


if __name__ == "__main__":
    main()
