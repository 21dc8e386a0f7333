"""A graph behind MLServer, with its adaptive batching: the runtime, and what starts it.

    python bench/serve_mlserver.py MODEL PORT [--tokenizer FILE] [--batch N]

`POST /v2/models/graph/infer`, Open Inference Protocol v2.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Graph(MLModel):  # type: ignore[misc]
    """One ONNX graph on one thread."""

    async def load(self) -> bool:
        """Load it."""
        from serve_answering import answering

        self.answer = answering(os.environ["GRAPH"], os.environ.get("TOKENIZER"))
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """The answers to a batch."""
        tensor = payload.inputs[0]
        given = StringCodec.decode_input(tensor) if tensor.datatype == "BYTES" else NumpyCodec.decode_input(tensor)
        found = np.asarray(self.answer(given))
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("answers", found)])


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("port", type=int)
    parser.add_argument("--tokenizer")
    parser.add_argument("--batch", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = {
            "http_port": asked.port, "grpc_port": asked.port + 1, "metrics_endpoint": None, "parallel_workers": 0,
            "debug": False, "host": "127.0.0.1",
        }  # fmt: skip
        model: dict[str, object] = {"name": "graph", "implementation": "serve_mlserver.Graph"}
        if asked.batch:
            model |= {"max_batch_size": asked.batch, "max_batch_time": 0.005}
        (Path(folder) / "settings.json").write_text(json.dumps(server))
        (Path(folder) / "model-settings.json").write_text(json.dumps(model))
        environment = {**os.environ, "GRAPH": asked.model, "PYTHONPATH": str(Path(__file__).parent)}
        if asked.tokenizer:
            environment["TOKENIZER"] = asked.tokenizer
        program = Path(sys.executable).with_name("mlserver")
        subprocess.run([program, "start", folder], env=environment, check=True)


if __name__ == "__main__":
    main()
